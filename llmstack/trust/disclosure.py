"""What a project's files would run, and where they would send traffic, in lines for a person to read.

What is not known to be harmless is shown, so something new shows up instead of slipping through.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from llmstack.trust.fingerprint import STATE_DIR, beside, printable, read_plain, settings_that_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llmstack.trust.fingerprint import Place

MAX_LINES = 200  # of one file
MAX_LINE = 300  # characters
_MAX_DEPTH = 40

_JSONC = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|//[^\n]*|/\*.*?(?:\*/|\Z)', re.DOTALL)
_TRAILING_COMMA = re.compile(r'"(?:\\.|[^"\\])*(?:"|\Z)|,(?=\s*[}\]])', re.DOTALL)
# Keys of opencode.json whose values run nothing and lead nowhere, unless they read a variable or a file.
_QUIET_KEYS = frozenset({"$schema", "description", "mode", "name", "context", "output", "theme"})
_QUIET_VALUES = frozenset({"deny", "ask", "disabled", "@ai-sdk/openai-compatible"})
# What a model can do, below `provider.<provider>.models.<model>`.
_CAPABILITIES = frozenset({"tool_call", "reasoning", "interleaved", "modalities", "attachment"})
_SUBSTITUTION = re.compile(r"\{(?:env|file):")
_QUIET_YAML = re.compile(
    r"""[ -]*(?:model_list|litellm_params|litellm_settings):[ ]*  # structure
    |   [ -]*model_name:[ ]*[\w.-]+[ ]*
    |   [ ]*drop_params:[ ]*true[ ]*
    |   [ \t]*\#.*
    |   \s*""",
    re.VERBOSE,
)


def programs(project: Place) -> list[str]:
    """Return what the project's files would run, where they would send traffic, one printable line each.

    Raises:
        LlmstackError: a file cannot be read.
    """
    state = project.work_dir / STATE_DIR
    files = [
        (project.models_ini, _models_ini),
        (state / "default-channel", _channel),
        (state / "active-channel", _channel),
        (state / "opencode.json", _opencode),
        (state / "litellm_config.yaml", _yaml),
    ]
    lines: list[str] = []
    for path, describe in files:
        data = read_plain(path)
        if data is not None:
            lines += _bounded(path.name, describe(data.decode("utf-8", "backslashreplace")))
    return lines + [
        _line(path.relative_to(state).as_posix(), "may be loaded by LiteLLM") for path in beside(state)
    ]


def _bounded(name: str, found: Iterator[str]) -> Iterator[str]:
    for count, text in enumerate(found):
        if count == MAX_LINES:
            yield _line(name, "… and more: read the file")
            return
        yield _line(name, text)


def _line(name: str, text: str) -> str:
    shown = printable(text)
    if len(shown) > MAX_LINE:
        shown = f"{shown[:MAX_LINE]}… ({len(shown) - MAX_LINE} more characters: read the file)"
    return f"{printable(name)}: {shown}"


def _models_ini(text: str) -> Iterator[str]:
    settings = settings_that_count(text.encode())
    if settings is not None:
        for one in settings:
            yield f"[{one.section}] {one.key} = {one.value}"
        return
    yield "is not written plainly, so all of it counts"
    yield from _plain_lines(text)


def _channel(text: str) -> Iterator[str]:
    if text.split() not in (["current"], ["next"]):
        yield f"requests go to: {text.strip()}"


def _yaml(text: str) -> Iterator[str]:
    # Shown as written: nothing that a parser would resolve away (anchors, merges, tags) can hide in it.
    for line in text.splitlines():
        if not _QUIET_YAML.fullmatch(line):
            yield line.strip()


def _opencode(text: str) -> Iterator[str]:
    try:
        document = json.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        try:
            document = json.loads(_without_comments(text.removeprefix("\ufeff")))
        except (ValueError, RecursionError):
            yield "cannot be read as JSON; opencode may still read it"
            yield from _plain_lines(text)
            return
    for path, value in _leaves(document):
        if not _quiet(path, value):
            yield f"{'.'.join(path)} = {value if isinstance(value, str) else json.dumps(value)}"


def _plain_lines(text: str) -> Iterator[str]:
    return (line.strip() for line in text.splitlines() if line.strip())


def _without_comments(text: str) -> str:
    bare = _JSONC.sub(lambda found: found[0] if found[0].startswith('"') else " ", text)
    return _TRAILING_COMMA.sub(lambda found: found[0] if found[0].startswith('"') else "", bare)


def _leaves(document: object) -> Iterator[tuple[tuple[str, ...], object]]:
    """Yield every value with its path; a list of plain values is one value, as in a command line."""
    waiting: list[tuple[tuple[str, ...], object]] = [((), document)]
    while waiting:
        path, value = waiting.pop()
        if len(path) > _MAX_DEPTH:
            yield path[:3], "… nested too deep to show"
        elif isinstance(value, dict) and value:
            waiting += [((*path, key), child) for key, child in reversed(value.items())]
        elif isinstance(value, list) and any(isinstance(child, dict | list) for child in value):
            waiting += [((*path, str(index)), child) for index, child in reversed([*enumerate(value)])]
        else:
            yield path, value


def _quiet(path: tuple[str, ...], value: object) -> bool:
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
    return key in _QUIET_KEYS or value in _QUIET_VALUES
