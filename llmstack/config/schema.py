"""Which keys models.ini knows, what each may look like and where it may stand."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from llmstack.config import values
from llmstack.config.model import BackendKind, Role
from llmstack.config.secrets import secret_problem
from llmstack.errors import Problem
from llmstack.kv_types import KV_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.ini import IniEntry, Section
    from llmstack.config.values import Parser

_PORT = partial(values.integer, low=1, high=65535)
_GB = partial(values.decimal, low=0, high=1_000_000)
_POSITIVE_GB = partial(values.decimal, low=0.001, high=1_000_000)
_CACHE_TYPE = partial(values.choice, of=KV_TYPES)
_QUANT = partial(values.word, pattern=r"[A-Za-z0-9._-]+", expected="a quantisation such as `Q4_K_M`")
_NAMES = partial(
    values.comma_list,
    item=partial(
        values.word,
        pattern=r"[A-Za-z0-9][A-Za-z0-9._/:-]{0,63}",
        expected="names of letters, digits and `. _ - / :`, 64 characters at most",
    ),
)

SETTINGS: dict[str, Parser] = {
    "host": values.host,
    "router_port": _PORT,
    "swap_port": _PORT,
    "litellm_port": _PORT,
    "start_port": _PORT,
    "swapper": partial(values.choice, of=("auto", "builtin", "llama-swap")),
    "memory_gb": _POSITIVE_GB,
    "api_key_env": partial(
        values.word, pattern=r"[A-Za-z_][A-Za-z0-9_]*", expected="the name of an environment variable"
    ),
    "allowed_hosts": partial(values.comma_list, item=values.host),
    "kv_cache_gb": _GB,
}
"""Fields of `Settings`; in [DEFAULT] only."""

LIMITS: dict[str, Parser] = {
    "ctx_size": partial(values.size, low=256),
    "max_output_tokens": partial(values.size, low=1),
    "ttl": values.duration,
}
"""In any tier, or in [DEFAULT] for all of them."""

ENGINE: dict[str, Parser] = {
    "n_gpu_layers": values.gpu_layers,
    "parallel": partial(values.integer, low=1, high=256),
    "cache_ram_gb": _GB,
    "flash_attn": partial(values.choice, of=("on", "off", "auto")),
    "jinja": values.boolean,
    "threads": partial(values.integer, low=-1, high=4096),
    "cache_type_k": _CACHE_TYPE,
    "cache_type_v": _CACHE_TYPE,
}
"""Fields of `EngineSettings`; in a gguf tier, or in [DEFAULT] for all of them."""

COMMON: dict[str, Parser] = {
    "tier": partial(values.choice, of=("code", "chat")),
    "role": partial(values.member, of=Role),
    "backend": partial(values.member, of=BackendKind),
    "aliases": _NAMES,
    "sampler": values.sampler,
    "fallback": _NAMES,
    "description": str,
    "serves": partial(values.choice, of=("chat", "embedding", "rerank")),
    "modalities": partial(values.comma_list, item=partial(values.choice, of=("text", "image"))),
}
"""In any tier."""

TIER_ENGINE: dict[str, Parser] = {
    "rope_scaling": values.rope_scaling,
    "chat_template": str,
    "extra_args": values.arguments,
}
"""Fields of `EngineSettings` that belong to one model."""

GGUF: dict[str, Parser] = {
    "hf_repo": values.hub_repo,
    "hf_file": values.hub_file,
    "path": values.local_path,
    "size_gb": _POSITIVE_GB,
    "quant": _QUANT,
    "hf_repo_next": values.hub_repo,
    "hf_file_next": values.hub_file,
    "size_gb_next": _POSITIVE_GB,
    "quant_next": _QUANT,
}

HOSTED: dict[str, Parser] = {"model": values.hosted, "model_next": values.hosted, "base_url": values.url}

MCP: dict[str, Parser] = {
    "command": values.command,
    "tool": partial(values.word, pattern=r"[^\s\"']+", expected="the name of one of the server's tools"),
}

BACKEND_KEYS: dict[BackendKind, dict[str, Parser]] = {
    BackendKind.GGUF: GGUF | ENGINE | TIER_ENGINE,
    BackendKind.LITELLM: HOSTED,
    BackendKind.SERVER: HOSTED,
    BackendKind.MCP: MCP,
}
"""What a tier may say beside `COMMON` and `LIMITS`."""

ROUTING: dict[str, Parser] = {
    "high_fidelity_ceiling": values.size,
    "mid_fidelity_ceiling": values.size,
    "multi_turn": partial(values.integer, low=1, high=1_000_000),
    "ultra_triggers": values.comma_list,
    "sticky": values.boolean,
    "while_loading": partial(values.choice, of=("wait", "resident")),
}
"""Fields of `Routing`; in [ROUTING] only."""

DEFAULT: dict[str, Parser] = SETTINGS | LIMITS | ENGINE
TIER: dict[str, Parser] = LIMITS | COMMON | GGUF | ENGINE | TIER_ENGINE | HOSTED | MCP

_PLACES = {"[DEFAULT]": DEFAULT, "[ROUTING]": ROUTING, "a tier": TIER}
_SHOWN = 80


@dataclass(frozen=True, slots=True)
class Values:
    """What one section says, parsed; [DEFAULT] answers for what it leaves open.

    Attributes:
        parsed: by key; a value that is wrong is not here, though its entry is in the section.
    """

    section: Section
    parsed: Mapping[str, Any]
    defaults: Values | None = None

    @property
    def name(self) -> str:
        """The section's name."""
        return self.section.name

    def wrote(self, key: str) -> bool:
        """Whether this section itself has the key, right or wrong."""
        return self.section.find(key) is not None

    def known(self, key: str) -> bool:
        """Whether this section or [DEFAULT] has the key, right or wrong."""
        return self.wrote(key) or (self.defaults is not None and self.defaults.wrote(key))

    def get(self, key: str) -> Any:
        """Return the value that holds here; None where there is none or it is wrong."""
        if self.wrote(key) or self.defaults is None:
            return self.parsed.get(key)
        return self.defaults.get(key)

    def pick(self, keys: Mapping[str, Parser]) -> dict[str, Any]:
        """Return those of the keys that are known here, with their values."""
        return {key: self.get(key) for key in keys if self.known(key)}

    def problem(self, key: str, message: str, hint: str | None = None) -> Problem:
        """Return a problem at the key's line, or at the section's where it has no such key."""
        place = self if self.wrote(key) or not self.known(key) else self.defaults or self
        entry = place.section.find(key)
        return Problem(entry.line if entry else self.section.line, place.name, f"{key}: {message}", hint)


def read(
    section: Section, keys: Mapping[str, Parser], defaults: Values | None = None
) -> tuple[Values, list[Problem]]:
    """Parse a section's entries; of a key written twice the first counts."""
    parsed: dict[str, Any] = {}
    problems: list[Problem] = []
    for entry in section.entries:
        problem = secret_problem(entry) or _misplaced(entry, keys)
        if problem is None:
            try:
                parsed.setdefault(entry.key, _parse(entry, keys[entry.key]))
            except values.BadValueError as error:
                problem = _bad_value(entry, error)
        if problem is not None:
            problems.append(problem)
    return Values(section, parsed, defaults), problems


def _parse(entry: IniEntry, parser: Parser) -> Any:
    if not entry.value:
        raise values.BadValueError("a value")
    return parser(entry.value)


def _misplaced(entry: IniEntry, keys: Mapping[str, Parser]) -> Problem | None:
    if entry.key in keys:
        return None
    places = [place for place, known in _PLACES.items() if entry.key in known]
    if places:
        return Problem(entry.line, entry.section, f"{entry.key}: belongs in {' or '.join(places)}, not here")
    everywhere = {key for known in _PLACES.values() for key in known}
    near = values.nearest(entry.key, keys) or values.nearest(entry.key, sorted(everywhere))
    hint = f"did you mean `{near[0]}`?" if near else None
    return Problem(entry.line, entry.section, f"{entry.key}: unknown key", hint)


def _bad_value(entry: IniEntry, error: values.BadValueError) -> Problem:
    got = entry.value if error.got is None else error.got
    shown = f"`{got[:_SHOWN]}{'…' if len(got) > _SHOWN else ''}`" if got else "nothing"
    hint = None
    if error.write:
        first, *others = error.write
        hint = " or ".join([f"write `{entry.key} = {first}`", *(f"`{other}`" for other in others)])
    return Problem(entry.line, entry.section, f"{entry.key}: expected {error.expected}, got {shown}", hint)
