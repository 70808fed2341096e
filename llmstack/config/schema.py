"""The keys of models.ini: the parser of each one, and the sections that may contain it."""

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
_CACHE_TYPE = partial(values.choice, options=KV_TYPES)
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
    "swapper": partial(values.choice, options=("auto", "builtin", "llama-swap")),
    "memory_gb": _POSITIVE_GB,
    "api_key_env": partial(
        values.word, pattern=r"[A-Za-z_][A-Za-z0-9_]*", expected="the name of an environment variable"
    ),
    "allowed_hosts": partial(values.comma_list, item=values.host),
    "kv_cache_gb": _GB,
}
"""Fields of `Settings`; only in [DEFAULT]."""

LIMITS: dict[str, Parser] = {
    "ctx_size": partial(values.size, low=256),
    "max_output_tokens": partial(values.size, low=1),
    "ttl": values.duration,
}
"""In any tier, or in [DEFAULT] for all tiers."""

ENGINE: dict[str, Parser] = {
    "n_gpu_layers": values.gpu_layers,
    "parallel": partial(values.integer, low=1, high=256),
    "cache_ram_gb": _GB,
    "flash_attn": partial(values.choice, options=("on", "off", "auto")),
    "jinja": values.boolean,
    "threads": partial(values.integer, low=-1, high=4096),
    "cache_type_k": _CACHE_TYPE,
    "cache_type_v": _CACHE_TYPE,
}
"""Fields of `EngineSettings`; in a gguf tier, or in [DEFAULT] for all gguf tiers."""

COMMON: dict[str, Parser] = {
    "tier": partial(values.choice, options=("code", "chat")),
    "role": partial(values.member, enum=Role),
    "backend": partial(values.member, enum=BackendKind),
    "aliases": _NAMES,
    "sampler": values.sampler,
    "fallback": _NAMES,
    "description": str,
    "serves": partial(values.choice, options=("chat", "embedding", "rerank")),
    "modalities": partial(values.comma_list, item=partial(values.choice, options=("text", "image"))),
}
"""In any tier."""

TIER_ENGINE: dict[str, Parser] = {
    "rope_scaling": values.rope_scaling,
    "chat_template": str,
    "extra_args": values.arguments,
}
"""Fields of `EngineSettings` that depend on the model; only in a gguf tier."""

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
"""Keys of a tier with this backend, in addition to `COMMON` and `LIMITS`."""

ROUTING: dict[str, Parser] = {
    "high_fidelity_ceiling": values.size,
    "mid_fidelity_ceiling": values.size,
    "multi_turn": partial(values.integer, low=1, high=1_000_000),
    "ultra_triggers": values.comma_list,
    "sticky": values.boolean,
    "while_loading": partial(values.choice, options=("wait", "resident")),
}
"""Fields of `Routing`; only in [ROUTING]."""

DEFAULT: dict[str, Parser] = SETTINGS | LIMITS | ENGINE
TIER: dict[str, Parser] = LIMITS | COMMON | GGUF | ENGINE | TIER_ENGINE | HOSTED | MCP

_KEYS_BY_SECTION = {"[DEFAULT]": DEFAULT, "[ROUTING]": ROUTING, "a tier": TIER}
_MAX_VALUE_CHARS = 80  # of a value in a message


@dataclass(frozen=True, slots=True)
class Values:
    """The parsed values of one section, with those of [DEFAULT] for keys that it does not have.

    Attributes:
        section: the section, including entries whose value is invalid.
        parsed: valid values by key.
        defaults: values of [DEFAULT]; None if the section does not inherit any.
    """

    section: Section
    parsed: Mapping[str, Any]
    defaults: Values | None = None

    @property
    def name(self) -> str:
        """The section's name."""
        return self.section.name

    def has_own(self, key: str) -> bool:
        """Return whether this section itself has the key, with a valid value or not."""
        return self.section.find(key) is not None

    def has(self, key: str) -> bool:
        """Return whether this section or [DEFAULT] has the key, with a valid value or not."""
        return self.has_own(key) or (self.defaults is not None and self.defaults.has_own(key))

    def get(self, key: str) -> Any:
        """Return the value from this section or [DEFAULT]; None if it is missing or invalid."""
        if self.has_own(key) or self.defaults is None:
            return self.parsed.get(key)
        return self.defaults.get(key)

    def pick(self, keys: Mapping[str, Parser]) -> dict[str, Any]:
        """Return the values of those of the keys that this section or [DEFAULT] has."""
        return {key: self.get(key) for key in keys if self.has(key)}

    def problem(self, key: str, message: str, hint: str | None = None) -> Problem:
        """Return a problem at the line of the key, here or in [DEFAULT]; else at the section's header."""
        owner = self if self.has_own(key) or not self.has(key) else self.defaults or self
        entry = owner.section.find(key)
        return Problem(entry.line if entry else self.section.line, owner.name, f"{key}: {message}", hint)


def parse_section(
    section: Section, keys: Mapping[str, Parser], defaults: Values | None = None
) -> tuple[Values, list[Problem]]:
    """Parse the entries of a section; of a duplicate key, the first entry counts."""
    parsed: dict[str, Any] = {}
    problems: list[Problem] = []
    for entry in section.entries:
        problem = secret_problem(entry) or _key_problem(entry, keys)
        if problem is None:
            try:
                parsed.setdefault(entry.key, _parse_value(entry, keys[entry.key]))
            except values.BadValueError as error:
                problem = _value_problem(entry, error)
        if problem is not None:
            problems.append(problem)
    return Values(section, parsed, defaults), problems


def _parse_value(entry: IniEntry, parser: Parser) -> Any:
    if not entry.value:
        raise values.BadValueError("a value")
    return parser(entry.value)


def _key_problem(entry: IniEntry, keys: Mapping[str, Parser]) -> Problem | None:
    """Return a problem if the key is unknown or belongs in another section."""
    if entry.key in keys:
        return None
    sections = [name for name, section_keys in _KEYS_BY_SECTION.items() if entry.key in section_keys]
    if sections:
        message = f"{entry.key}: belongs in {' or '.join(sections)}, not here"
        return Problem(entry.line, entry.section, message)
    all_keys = {key for section_keys in _KEYS_BY_SECTION.values() for key in section_keys}
    near = values.nearest(entry.key, keys) or values.nearest(entry.key, sorted(all_keys))
    hint = f"did you mean `{near[0]}`?" if near else None
    return Problem(entry.line, entry.section, f"{entry.key}: unknown key", hint)


def _value_problem(entry: IniEntry, error: values.BadValueError) -> Problem:
    value = entry.value if error.got is None else error.got
    ellipsis = "…" if len(value) > _MAX_VALUE_CHARS else ""
    got = f"`{value[:_MAX_VALUE_CHARS]}{ellipsis}`" if value else "nothing"
    hint = None
    if error.suggestions:
        first, *others = error.suggestions
        hint = " or ".join([f"write `{entry.key} = {first}`", *(f"`{other}`" for other in others)])
    return Problem(entry.line, entry.section, f"{entry.key}: expected {error.expected}, got {got}", hint)
