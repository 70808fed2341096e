"""Short names of models, and what each does not accept: `models.toml`, ours below the user's."""

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

OVERRIDE = "models.toml"
"""Name of the user's own file, in the user's configuration directory."""

_KEYS = {"default", "names", "limits"}
_LISTS, _TABLES, _TEXTS = (
    ("refuses", "one_of", "takes"),
    ("renames", "highest"),
    ("unsigned_call", "after_tools"),
)


@dataclass(frozen=True, slots=True)
class ModelAliases:
    """Short names and limits, by provider."""

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def full_name(self, provider: str, model: str) -> str:
        """Return a model's full name; one that is not a short name stays as it is."""
        for table in self._of(provider):
            if model in table.get("names", {}):
                return str(table["names"][model])
        return model

    def default(self, provider: str) -> str | None:
        """Return the model that is meant where only the provider is named."""
        for table in self._of(provider):
            if "default" in table:
                return self.full_name(provider, str(table["default"]))
        return None

    def short_names(self, provider: str) -> list[str]:
        """Return the short names there are."""
        return sorted({name for table in self._of(provider) for name in table.get("names", {})})

    def limits(self, provider: str, model: str) -> ModelLimits:
        """Return what a model, by its full name, does not accept."""
        found = ModelLimits()
        for table in reversed(self._of(provider)):
            for entry in table.get("limits", ()):
                if any(fnmatchcase(model, pattern) for pattern in entry["models"]):
                    found = found.plus(entry)
        return found

    def _of(self, provider: str) -> list[Mapping[str, Any]]:
        """Return the tables that speak of a provider, its own first."""
        names = (provider, FAMILIES.get(provider, provider))
        return [self.tables[name] for name in dict.fromkeys(names) if name in self.tables]


def bundled() -> ModelAliases:
    """Return what comes with the package."""
    from importlib import resources  # noqa: PLC0415 - read at an entry point only

    text = resources.files("llmstack.providers").joinpath(OVERRIDE).read_text(encoding="utf-8")
    return ModelAliases(_tables(text, OVERRIDE))


def load(directory: Path | None) -> ModelAliases:
    """Return what comes with the package, with the user's own file over it.

    Args:
        directory: the user's configuration directory; None looks at nothing of the user's.

    Raises:
        LlmstackError: the user's file cannot be read, or does not say what it may.
    """
    ours = bundled()
    path = directory / OVERRIDE if directory is not None else None
    if path is None or not path.is_file():
        return ours
    try:
        theirs = _tables(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise LlmstackError(f"cannot read {path}: {error}") from error
    merged = dict(ours.tables)
    for provider, table in theirs.items():
        base = merged.get(provider, {})
        merged[provider] = {
            **base,
            **table,
            "names": {**base.get("names", {}), **table.get("names", {})},
            "limits": [*base.get("limits", ()), *table.get("limits", ())],
        }
    return ModelAliases(merged)


def _tables(text: str, source: str) -> dict[str, dict[str, Any]]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LlmstackError(f"{source}: not TOML: {error}") from error
    for provider, table in tables.items():
        problem = _problem(provider, table)
        if problem is not None:
            raise LlmstackError(
                f"{source}: [{provider}] {problem}",
                hint="see llmstack/providers/models.toml for what it may say",
            )
    return tables


def _problem(provider: str, table: Any) -> str | None:
    """Return what is wrong in one provider's table."""
    if provider not in PROVIDERS:
        return f"no such provider; there are: {', '.join(PROVIDERS)}"
    if not isinstance(table, dict) or (unknown := table.keys() - _KEYS):
        return (
            f"expected {', '.join(sorted(_KEYS))}, got {', '.join(sorted(unknown)) if table else 'no table'}"
        )
    if not _texts(table.get("names", {})) or not isinstance(table.get("default", ""), str):
        return "names, default: expected names of models in quotes"
    return next(filter(None, map(_problem_of_limits, table.get("limits", ()))), None)


def _problem_of_limits(entry: Any) -> str | None:
    if not isinstance(entry, dict) or not _strings(entry.get("models")):
        return 'limits: expected `models = ["pattern"]`'
    for key, value in entry.items():
        if key not in {"models", *_LISTS, *_TABLES, *_TEXTS}:
            return f"limits: unknown key `{key}`"
        if key in _TEXTS and not isinstance(value, str):
            return f"limits: {key}: expected a text"
        if key not in (*_TABLES, *_TEXTS) and not _strings(value):
            return f"limits: {key}: expected a list of names"
        if key == "renames" and not _texts(value):
            return f"limits: {key}: expected names of parameters in quotes"
        if key == "highest" and not _numbers(value):
            return f"limits: {key}: expected numbers"
    return None


def _strings(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _texts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, str) for item in value.values())


def _numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(item, int | float) for item in value.values())
