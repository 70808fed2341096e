"""Short names and limits of models: the bundled `models.toml`, with the user's own file merged over it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.providers.catalog import FAMILIES, PROVIDERS
from llmstack.providers.limits import ModelLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILE_NAME = "models.toml"
"""Name of the bundled file, and of the user's file in the user's configuration directory."""

_KEYS = {"default", "names", "limits"}
_LISTS, _TABLES, _TEXTS = (
    ("refuses", "one_of", "takes"),
    ("renames", "highest"),
    ("unsigned_call", "after_tools"),
)


@dataclass(frozen=True, slots=True)
class ModelAliases:
    """Short names and limits of models.

    Attributes:
        tables: the tables of models.toml, by provider.
    """

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def full_name(self, provider: str, model: str) -> str:
        """Return the full name of a model; a name that is no short name is returned as it is."""
        for table in self._tables_for(provider):
            if model in table.get("names", {}):
                return str(table["names"][model])
        return model

    def default_model(self, provider: str) -> str | None:
        """Return the full name of a provider's default model; None if it has none."""
        for table in self._tables_for(provider):
            if "default" in table:
                return self.full_name(provider, str(table["default"]))
        return None

    def short_names(self, provider: str) -> list[str]:
        """Return the short names of a provider's models, sorted."""
        return sorted({name for table in self._tables_for(provider) for name in table.get("names", {})})

    def limits_for(self, provider: str, model: str) -> ModelLimits:
        """Return what a model, given by its full name, does not accept."""
        limits = ModelLimits()
        for table in reversed(self._tables_for(provider)):
            for entry in table.get("limits", ()):
                if any(fnmatchcase(model, pattern) for pattern in entry["models"]):
                    limits = limits.merge(entry)
        return limits

    def _tables_for(self, provider: str) -> list[Mapping[str, Any]]:
        """Return the tables that apply to a provider, its own before that of its family."""
        names = (provider, FAMILIES.get(provider, provider))
        return [self.tables[name] for name in dict.fromkeys(names) if name in self.tables]


def load_bundled_aliases() -> ModelAliases:
    """Read the models.toml that comes with the package."""
    from importlib import resources  # noqa: PLC0415 - read at an entry point only

    text = resources.files("llmstack.providers").joinpath(FILE_NAME).read_text(encoding="utf-8")
    return ModelAliases(_parse(text, FILE_NAME))


def load_aliases(directory: Path | None) -> ModelAliases:
    """Read the models.toml that comes with the package, and merge the user's file over it.

    Args:
        directory: the user's configuration directory; None reads the bundled file only.

    Raises:
        LlmstackError: the user's file cannot be read or is invalid.
    """
    bundled = load_bundled_aliases()
    path = directory / FILE_NAME if directory is not None else None
    if path is None or not path.is_file():
        return bundled
    try:
        user_tables = _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise LlmstackError(f"cannot read {path}: {error}") from error
    tables = dict(bundled.tables)
    for provider, table in user_tables.items():
        base = tables.get(provider, {})
        tables[provider] = {
            **base,
            **table,
            "names": {**base.get("names", {}), **table.get("names", {})},
            "limits": [*base.get("limits", ()), *table.get("limits", ())],
        }
    return ModelAliases(tables)


def _parse(text: str, source: str) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LlmstackError(f"{source}: not TOML: {error}") from error
    for provider, table in tables.items():
        problem = _find_problem(provider, table)
        if problem is not None:
            raise LlmstackError(
                f"{source}: [{provider}] {problem}",
                hint="the comments of llmstack/providers/models.toml describe the format",
            )
    return tables


def _find_problem(provider: str, table: Any) -> str | None:
    """Return what is wrong with one provider's table; None if it is valid."""
    if provider not in PROVIDERS:
        return f"no such provider; there are: {', '.join(PROVIDERS)}"
    if not isinstance(table, dict) or (unknown := table.keys() - _KEYS):
        return (
            f"expected {', '.join(sorted(_KEYS))}, got {', '.join(sorted(unknown)) if table else 'no table'}"
        )
    if not _is_text_table(table.get("names", {})) or not isinstance(table.get("default", ""), str):
        return "names, default: expected names of models in quotes"
    return next(filter(None, map(_find_limits_problem, table.get("limits", ()))), None)


def _find_limits_problem(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not _is_text_list(entry.get("models")):
        return 'limits: expected `models = ["pattern"]`'
    for key, value in entry.items():
        if key not in {"models", *_LISTS, *_TABLES, *_TEXTS}:
            return f"limits: unknown key `{key}`"
        if key in _TEXTS and not isinstance(value, str):
            return f"limits: {key}: expected text in quotes"
        if key not in (*_TABLES, *_TEXTS) and not _is_text_list(value):
            return f"limits: {key}: expected a list of names"
        if key == "renames" and not _is_text_table(value):
            return f"limits: {key}: expected names of parameters in quotes"
        if key == "highest" and not _is_number_table(value):
            return f"limits: {key}: expected numbers"
    return None


def _is_text_list(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_text_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _is_number_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, int | float) for item in value.values())
