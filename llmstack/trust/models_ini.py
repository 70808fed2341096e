"""What in the text of a models.ini can run a program, redirect traffic or send prompts to another machine.

The shell hook imports this at a prompt, so it imports only the standard library and reads the file as text,
without llmstack.config.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# Keys that can be edited without asking for trust again: numbers, names and data. Every other key counts,
# known or not, so that a new key requires trust until it is listed here.
TRUST_NEUTRAL_KEYS = frozenset(
    {
        "aliases",
        "cache_ram_gb",
        "cache_type_k",
        "cache_type_v",
        "ctx_size",
        "description",
        "fallback",
        "flash_attn",
        "hf_file",
        "hf_file_next",
        "hf_repo",
        "hf_repo_next",
        "high_fidelity_ceiling",
        "jinja",
        "kv_cache_gb",
        "litellm_port",
        "max_output_tokens",
        "memory_gb",
        "mid_fidelity_ceiling",
        "multi_turn",
        "n_gpu_layers",
        "parallel",
        "router_port",
        "start_port",
        "swap_port",
        "path",
        "quant",
        "quant_next",
        "role",
        "rope_scaling",
        "sampler",
        "size_gb",
        "size_gb_next",
        "sticky",
        "swapper",
        "threads",
        "tier",
        "ttl",
        "ultra_triggers",
        "while_loading",
    }
)
# Of these, the provider counts (it decides who reads the prompts); the model's name does not.
_MODEL_KEYS = frozenset({"model", "model_next"})
# If one of these holds an address (`//host`, `\\host`), it leads to another machine: the whole value counts.
_LOCATORS = frozenset({"hf_file", "hf_file_next", "hf_repo", "hf_repo_next", "path"}) | _MODEL_KEYS
_ADDRESS = re.compile(r"//|\\\\|\\/|/\\")
# These decide which prompts `auto` sends to which role; they count if one of the roles sends them elsewhere.
_ROUTING_KEYS = frozenset(
    {
        "ctx_size",
        "high_fidelity_ceiling",
        "max_output_tokens",
        "mid_fidelity_ceiling",
        "multi_turn",
        "sticky",
        "ultra_triggers",
        "while_loading",
    }
)
# These decide which tier a name stands for. What they say is compared by its effect, see `PromptRoute`.
_NAMING_KEYS = frozenset({"aliases", "fallback", "role"})
_WEIGHTS_KEYS = frozenset({"hf_file", "hf_repo", "path"})

_HEADER = re.compile(r"[ \t]*\[([^\[\]]+)\][ \t]*(?:[ \t];.*)?")
_LINE = re.compile(r"[ \t]*([A-Za-z0-9_.-]+)[ \t]*=(.*)")
# A comment however the format is read; text that only may be a comment stays part of the value.
_TRAILING_COMMENT = re.compile(r"[ \t];(?:[ \t]|$)")
_QUOTES = re.compile(r"""["'\\]""")
# Control characters, and all line ends but a newline: some reader may split the line there.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")

HERE = "this machine"


class Setting(NamedTuple):
    """One line of models.ini; `value` is what of it is security-relevant."""

    section: str
    key: str
    value: str


class PromptRoute(NamedTuple):
    """Names of a tier whose prompts may leave the model servers of this stack, and where they go.

    Attributes:
        names: the tier's role as `role ultra`, its own name, and its aliases.
        destinations: providers and addresses, also those of the tiers that its `fallback` names.
    """

    names: tuple[str, ...]
    destinations: tuple[str, ...]

    def __str__(self) -> str:
        return f"prompts for {', '.join(self.names)} go to {', '.join(self.destinations)}"


class SecurityView(NamedTuple):
    """What of a models.ini requires trust, in an order that does not depend on that of its lines."""

    settings: list[Setting]
    routes: list[PromptRoute]


def security_view(data: bytes) -> SecurityView | None:
    r"""Return what of the text of a models.ini requires trust; None if the whole text does.

    Nothing is skipped that config/ini.py could read as another setting: only plain lines (blank, comment,
    `[section]`, `ascii_key = value`) are taken apart. One line of any other kind, or one character that some
    reader may take for a line end, makes the whole text count.
    """
    lines = _plain_lines(data)
    if lines is None:
        return None
    tiers = _group_by_section(lines)
    routes = _prompt_routes(tiers)
    has_remote_role = any(name.startswith("role ") for route in routes for name in route.names)
    counted = _ROUTING_KEYS if has_remote_role else frozenset()
    settings = [
        Setting(line.section, line.key, value)
        for line in lines
        if (value := _security_value(line, counted)) is not None
    ]
    # The order of sections and keys does not matter; which of two equal keys comes last does (stable sort).
    return SecurityView(sorted(settings, key=lambda setting: setting[:2]), routes)


def security_content(data: bytes) -> bytes:
    """Return what of the text of a models.ini to digest."""
    view = security_view(data)
    if view is None:
        return b"whole\n" + data
    lines = [f"[{setting.section}]{setting.key}={setting.value}" for setting in view.settings]
    return b"settings\n" + "\n".join([*lines, *map(str, view.routes)]).encode()


def _plain_lines(data: bytes) -> list[Setting] | None:
    """Return every setting with the text after its `=`; None if one line is not plain."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    if _UNSAFE.search(text):
        return None
    section, lines = "", []
    for line in text.split("\n"):
        stripped = line.strip(" \t")
        if not stripped or stripped[0] in ";#":
            continue
        if header := _HEADER.fullmatch(line):
            section = header[1].strip(" \t")
        elif setting := _LINE.fullmatch(line):
            lines.append(Setting(section, setting[1].lower(), setting[2]))
        else:
            return None
    return lines


def _security_value(line: Setting, counted: frozenset[str]) -> str | None:
    """Return what of a line's value is security-relevant; None if nothing is.

    Args:
        line: the line, with its text after the `=`.
        counted: neutral keys that count nevertheless.
    """
    key, value = line.key, _strip_comment(line.value)
    if key in _LOCATORS and _ADDRESS.search(value):
        return value
    if key in _MODEL_KEYS:
        provider, slash, _ = value.partition("/")
        return f"{provider}/…" if slash else value
    if key in _NAMING_KEYS:
        # If its effect is unclear, because a reader may see a comment or not, the text counts.
        is_plain = ";" not in value and not _QUOTES.search(value) and line.section.upper() != "DEFAULT"
        return None if is_plain else value
    return None if key in TRUST_NEUTRAL_KEYS - counted else value


def _strip_comment(text: str) -> str:
    comment = _TRAILING_COMMENT.search(text)
    before = text[: comment.start()] if comment else text
    return (text if _QUOTES.search(before) else before).strip(" \t")


def _group_by_section(lines: list[Setting]) -> dict[str, dict[str, list[str]]]:
    """Return the values by section and key; a section or key that stands twice has the values of both."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in lines:
        values = sections.setdefault(line.section, {}).setdefault(line.key, [])
        values.append(_strip_comment(line.value))
    return {name: values for name, values in sections.items() if name.upper() not in {"DEFAULT", "ROUTING"}}


def _prompt_routes(tiers: dict[str, dict[str, list[str]]]) -> list[PromptRoute]:
    """Return the tiers whose prompts may go elsewhere, with every name that leads to them."""
    aliases = {name: _split(values.get("aliases", [])) for name, values in tiers.items()}
    tier_of = {alias: name for name, each in aliases.items() for alias in each} | {
        name: name for name in tiers
    }
    routes = []
    for name, values in tiers.items():
        reached, waiting = {name}, [name]
        while waiting:
            names = _split(tiers[waiting.pop()].get("fallback", []))
            new = {tier_of[each] for each in names if each in tier_of} - reached
            reached |= new
            waiting += new
        destinations = set().union(*(_destinations(tiers[each]) for each in reached))
        if destinations != {HERE}:
            roles = [f"role {role.casefold()}" for role in values.get("role", [])]
            all_names = (*sorted(roles), name, *sorted(aliases[name]))
            routes.append(PromptRoute(all_names, tuple(sorted(destinations))))
    return sorted(routes)


def _destinations(values: dict[str, list[str]]) -> set[str]:
    """Return where a tier's prompts go: `HERE`, or a provider, with the address or command if it has one."""
    models = [model for key in sorted(_MODEL_KEYS) for model in values.get(key, [])]
    is_local = bool(_WEIGHTS_KEYS & values.keys()) and not models
    if is_local and set(map(str.casefold, values.get("backend", ["gguf"]))) == {"gguf"}:
        return {HERE}
    places = [f"at {url}" for url in values.get("base_url", [])]
    places += [f"run by {command}" for command in values.get("command", [])]
    providers = {model.partition("/")[0] for model in models} or set(values.get("backend", ["unknown"]))
    return {" ".join([provider, *places]) for provider in providers}


def _split(values: list[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",") if part.strip()]
