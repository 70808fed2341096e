"""Parse models.ini into a `StackConfig`, or report all of its problems at once."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llmstack.config import schema, tiers
from llmstack.config.ini import Section, scan
from llmstack.config.model import BackendKind, Role, Routing, Settings, StackConfig
from llmstack.config.schema import Values, parse_section
from llmstack.config.values import nearest
from llmstack.errors import ConfigError, LlmstackError, Problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

_SHARED = {"DEFAULT": schema.DEFAULT, "ROUTING": schema.ROUTING}
_PORTS = ("router_port", "swap_port", "litellm_port", "start_port")


def parse_bytes(data: bytes, path: Path) -> StackConfig:
    """Parse the content of a models.ini; a relative `path` of a tier is relative to the file's directory.

    Raises:
        LlmstackError: it is not UTF-8 text.
        ConfigError: it has mistakes.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        message = f"{path}: expected UTF-8 text, got byte 0x{data[error.start]:02x} at {error.start}"
        raise LlmstackError(message, hint="save the file again as UTF-8") from None
    return parse(text, str(path), base=path.parent)


def parse(text: str, source: str, *, base: Path) -> StackConfig:
    """Parse the text of a models.ini.

    Args:
        text: the whole file.
        source: file, URL or profile that it comes from, for messages.
        base: directory that a relative `path` of a tier is relative to.

    Raises:
        ConfigError: the text has mistakes; the error has all of them, in line order.
    """
    ini = scan(text)
    problems = list(ini.problems)
    shared, shared_problems = _parse_shared(ini.sections)
    problems += shared_problems
    declared: dict[str, Values] = {}
    for section in ini.sections:
        if section.name.upper() not in _SHARED:
            tier, tier_problems = parse_section(section, schema.TIER, shared["DEFAULT"])
            declared.setdefault(section.name, tier)
            problems += tier_problems
            problems += tiers.check(tier)
    names, name_problems = _collect_names(declared)
    problems += name_problems
    problems += _check_file_names(declared)
    problems += _check_stack(declared, names)
    problems += _check_ports(shared["DEFAULT"], declared)
    problems += _check_ceilings(shared["ROUTING"])
    if problems:
        # A mistake in [DEFAULT] that several tiers inherit is reported once.
        raise ConfigError(source, sorted(dict.fromkeys(problems), key=lambda problem: problem.line))
    return StackConfig(
        settings=Settings(**shared["DEFAULT"].pick(schema.SETTINGS)),
        routing=Routing(**shared["ROUTING"].pick(schema.ROUTING)),
        tiers={tier.name: tiers.build(tier, base, names) for tier in declared.values()},
        source=source,
        text=text,
    )


def _parse_shared(sections: Iterable[Section]) -> tuple[dict[str, Values], list[Problem]]:
    """Parse [DEFAULT] and [ROUTING]; a missing one is empty, and of a duplicate one the first counts."""
    shared: dict[str, Values] = {}
    problems: list[Problem] = []
    for section in sections:
        name = section.name.upper()
        if name not in _SHARED:
            continue
        if section.name != name:
            problems.append(
                Problem(
                    section.line,
                    section.name,
                    f"expected `[{name}]`, in capitals",
                    f"write `[{name}]`",
                )
            )
        values, section_problems = parse_section(section, _SHARED[name])
        shared.setdefault(name, values)
        problems += section_problems
    return {name: shared.get(name) or Values(Section(name, 0), {}) for name in _SHARED}, problems


def _collect_names(declared: Mapping[str, Values]) -> tuple[dict[str, str], list[Problem]]:
    """Return the name of a tier by its name and its aliases, and the ambiguous names."""
    names = {name: name for name in declared}
    problems: list[Problem] = []
    for tier in declared.values():
        for alias in tier.get("aliases") or ():
            if alias.lower() == "auto":
                problems.append(tier.problem("aliases", "`auto` is the router's own model"))
            elif alias in declared:
                line = declared[alias].section.line
                problems.append(tier.problem("aliases", f"`{alias}` is the name of a tier (line {line})"))
            elif alias in names:
                problems.append(tier.problem("aliases", f"`{alias}` is already an alias of [{names[alias]}]"))
            names.setdefault(alias, tier.name)
    return names, problems


def _check_file_names(declared: Mapping[str, Values]) -> Iterator[Problem]:
    """Yield tiers whose names collide as file names (some file systems ignore case) or in LiteLLM.

    LiteLLM's configuration calls the upgrade of a tier `<tier>_next`.
    """
    tiers_by_name: dict[str, Values] = {}
    for tier in declared.values():
        other = tiers_by_name.setdefault(tier.name.lower(), tier)
        if other is not tier:
            message = f"differs from [{other.name}] (line {other.section.line}) in case only"
            yield Problem(tier.section.line, tier.name, message, "rename one of them")
        stem = tier.name.removesuffix("_next")
        if stem != tier.name and stem in declared:
            message = f"`{tier.name}` is what the upgrade of [{stem}] is called"
            yield Problem(tier.section.line, tier.name, message, "rename one of them")


def _check_stack(declared: Mapping[str, Values], names: Mapping[str, str]) -> Iterator[Problem]:
    """Yield problems between tiers."""
    if not declared:
        hint = "add a section such as `[code-fast]`, or start again from `llmstack install --print`"
        yield Problem(0, "", "no tier: expected at least one section besides [DEFAULT] and [ROUTING]", hint)
    roles: dict[Role, Values] = {}
    for tier in declared.values():
        yield from _check_fallback(tier, names)
        role = tier.get("role")
        first = roles.setdefault(role, tier)
        if role is not None and first is not tier:
            message = f"`{role}` is already the role of [{first.name}] (line {first.section.line})"
            yield tier.problem("role", message, "a role belongs to one tier")


def _check_fallback(tier: Values, names: Mapping[str, str]) -> Iterator[Problem]:
    for name in tier.get("fallback") or ():
        if name not in names:
            near = nearest(name, names)
            hint = (
                f"did you mean `{near[0]}`?" if near else f"tiers: {', '.join(dict.fromkeys(names.values()))}"
            )
            yield tier.problem("fallback", f"expected the name of a tier, got `{name}`", hint)
        elif names[name] == tier.name:
            yield tier.problem("fallback", f"`{name}` is this tier itself")


def _check_ports(default: Values, declared: Mapping[str, Values]) -> Iterator[Problem]:
    """Yield ports that collide; each model server takes one, from `start_port` upwards."""
    ports: dict[str, Any] = asdict(Settings()) | default.pick(schema.SETTINGS)
    if any(ports[key] is None for key in _PORTS):
        return
    servers = sum(tiers.backend_of(tier) is BackendKind.GGUF for tier in declared.values())
    last = ports["start_port"] + max(servers, 1) - 1
    for index, key in enumerate(_PORTS):
        for earlier in _PORTS[:index]:
            wrong_key = key if default.has_own(key) else earlier
            if ports[key] == ports[earlier]:
                yield default.problem(
                    wrong_key, f"{ports[key]} is both `{earlier}` and `{key}`", "give each its own"
                )
            elif key == "start_port" and ports[key] < ports[earlier] <= last:
                message = f"model servers take {ports[key]} to {last}, and `{earlier}` is {ports[earlier]}"
                yield default.problem(wrong_key, message, "move one of them")
    if last > 65535:  # noqa: PLR2004 - the highest port number
        yield default.problem("start_port", f"{servers} model servers do not fit above {ports['start_port']}")


def _check_ceilings(routing: Values) -> Iterator[Problem]:
    ceilings: dict[str, Any] = asdict(Routing()) | routing.pick(schema.ROUTING)
    high, mid = ceilings["high_fidelity_ceiling"], ceilings["mid_fidelity_ceiling"]
    if high is not None and mid is not None and mid < high:
        key = "mid_fidelity_ceiling" if routing.has_own("mid_fidelity_ceiling") else "high_fidelity_ceiling"
        message = f"the mid ceiling ({mid}) is below the high one ({high})"
        yield routing.problem(key, message, "set `mid_fidelity_ceiling` to at least `high_fidelity_ceiling`")
