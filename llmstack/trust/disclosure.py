"""Describe what a project's files would run and where they would send traffic, in lines for a person.

Everything that is not known to be harmless is shown, so that a new kind of setting cannot slip through.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.trust.fingerprint import (
    ACTIVE_CHANNEL,
    DEFAULT_CHANNEL,
    LITELLM_CONFIG,
    MODELS_INI,
    OPENCODE_JSON,
)
from llmstack.trust.models_ini import security_view
from llmstack.trust.plain_files import escape_unprintable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.trust.fingerprint import ProjectFiles

MAX_LINES = 200  # per file
MAX_LINE_CHARS = 300
_MAX_DEPTH = 40

_JSONC = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|,(?=\s*[}\]])', re.DOTALL)
# Keys of opencode.json whose values run nothing and redirect nothing, unless they read a variable or a file.
_HARMLESS_KEYS = frozenset({"$schema", "description", "mode", "name", "context", "output", "theme"})
_HARMLESS_VALUES = frozenset({"deny", "ask", "disabled", "@ai-sdk/openai-compatible"})
# Keys below `provider.<provider>.models.<model>` that say what a model can do.
_CAPABILITIES = frozenset({"tool_call", "reasoning", "interleaved", "modalities", "attachment"})
_SUBSTITUTION = re.compile(r"\{(?:env|file):")
_HARMLESS_YAML = re.compile(
    r"""[ -]*(?:model_list|litellm_params|litellm_settings):[ ]*  # structure
    |   [ -]*model_name:[ ]*[\w.-]+[ ]*
    |   [ ]*drop_params:[ ]*true[ ]*
    |   [ \t]*\#.*
    |   \s*""",
    re.VERBOSE,
)


def describe(files: ProjectFiles) -> list[str]:
    """Return what a project's files would run and where they would send traffic, as printable lines."""
    describers = {
        files.models_ini_name: _describe_models_ini,
        MODELS_INI: _describe_models_ini,
        DEFAULT_CHANNEL: _describe_channel,
        ACTIVE_CHANNEL: _describe_channel,
        OPENCODE_JSON: _describe_opencode,
        LITELLM_CONFIG: _describe_litellm_yaml,
    }
    lines: list[str] = []
    for name, describe_text in describers.items():
        data = files.contents.get(name)
        if data is not None:
            text = data.decode("utf-8", "backslashreplace")
            lines += _format_lines(Path(name).name, describe_text(text))
    loadable = sorted(files.loadable().keys() - describers.keys())
    lines += [_format_line(name, "may be loaded by LiteLLM") for name in loadable[:MAX_LINES]]
    if len(loadable) > MAX_LINES:
        lines.append(f"… and {len(loadable) - MAX_LINES} more files that LiteLLM may load")
    return lines


def _format_lines(name: str, texts: Iterator[str]) -> Iterator[str]:
    """Yield at most `MAX_LINES` lines, then one that says that there are more."""
    for count, text in enumerate(texts):
        if count == MAX_LINES:
            yield _format_line(name, "… and more: read the file")
            return
        yield _format_line(name, text)


def _format_line(name: str, text: str) -> str:
    line = escape_unprintable(text)
    if len(line) > MAX_LINE_CHARS:
        line = f"{line[:MAX_LINE_CHARS]}… ({len(line) - MAX_LINE_CHARS} more characters: read the file)"
    return f"{escape_unprintable(name)}: {line}"


def _describe_models_ini(text: str) -> Iterator[str]:
    view = security_view(text.encode())
    if view is not None:
        for setting in view.settings:
            yield f"[{setting.section}] {setting.key} = {setting.value}"
        yield from map(str, view.routes)
        return
    yield "is not written plainly, so all of it counts"
    yield from _non_blank_lines(text)


def _describe_channel(text: str) -> Iterator[str]:
    if text.split() not in (["current"], ["next"]):
        yield f"requests go to: {text.strip()}"


def _describe_litellm_yaml(text: str) -> Iterator[str]:
    # Shown as written, since a parser would resolve anchors, merges and tags, and something could hide there.
    for line in text.splitlines():
        if not _HARMLESS_YAML.fullmatch(line):
            yield line.strip()


def _describe_opencode(text: str) -> Iterator[str]:
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        try:
            document = json.loads(_strip_jsonc(text.removeprefix("\ufeff")))
        except (ValueError, RecursionError):
            yield "cannot be read as JSON; opencode may still read it"
            yield from _non_blank_lines(text)
            return
    for path, value in _iter_leaves(document):
        if not _is_harmless(path, value):
            yield f"{'.'.join(path)} = {value if isinstance(value, str) else json.dumps(value)}"


def _non_blank_lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _strip_jsonc(text: str) -> str:
    """Return JSONC as JSON: without comments and trailing commas."""
    bare = _JSONC.sub(lambda match: match[0] if match[0].startswith('"') else " ", text)
    return _TRAILING_COMMA.sub(lambda match: match[0] if match[0].startswith('"') else "", bare)


def _iter_leaves(document: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every value with its path; a list of plain values, such as a command line, is one value."""
    stack: list[tuple[tuple[str, ...], object]] = [((), document)]
    while stack:
        path, value = stack.pop()
        if len(path) > _MAX_DEPTH:
            yield path[:3], "… nested too deep to show"
        elif isinstance(value, dict) and value:
            stack += [((*path, key), child) for key, child in reversed(value.items())]
        elif isinstance(value, list) and any(isinstance(child, dict | list) for child in value):
            stack += [((*path, str(index)), child) for index, child in reversed([*enumerate(value)])]
        else:
            yield path, value


def _is_harmless(path: tuple[str, ...], value: object) -> bool:
    if path[:1] + path[2:3] == ("provider", "models") and path[4:5] and path[4] in _CAPABILITIES:
        return True
    if value is True:
        return False
    if not value or isinstance(value, int | float):
        return True
    if not isinstance(value, str) or _SUBSTITUTION.search(value):
        return False
    key = path[-1] if path else ""
    if key in {"model", "small_model"}:
        return value.startswith("llama.cpp/")
    return key in _HARMLESS_KEYS or value in _HARMLESS_VALUES
