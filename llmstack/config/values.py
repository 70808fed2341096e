"""Parsers for the values of models.ini, one per kind of value; each raises BadValueError."""

from __future__ import annotations

import difflib
import ipaddress
import re
import shlex
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from llmstack.config.model import LOCAL_SERVERS, HostedModel, RopeScaling, Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from enum import StrEnum

    Parser = Callable[[str], Any]
    MemberT = TypeVar("MemberT", bound=StrEnum)

MAX_TOKENS = 100 * 1024**2

_SIZE = re.compile(r"([0-9]{1,12})([kKmM]?)")
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhSMH]?)")
_INTEGER = re.compile(r"-?[0-9]{1,9}")
_DECIMAL = re.compile(r"-?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?")
_HUB_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]*"
_FILE_NAME = r"[^\s./\\:*?\"'<>|][^\s/\\:*?\"'<>|]*"
_TOKENS = {"": 1, "k": 1024, "m": 1024**2}
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}
_BOOLEANS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


class BadValueError(ValueError):
    """A value that does not parse.

    Args:
        expected: a description that completes "expected …".
        suggestions: valid values, for the hint.
        got: the invalid part; None if it is the whole value.
    """

    def __init__(self, expected: str, *, suggestions: tuple[str, ...] = (), got: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.suggestions = suggestions
        self.got = got


def nearest(word: str, options: Iterable[str]) -> tuple[str, ...]:
    """Return the option that is most similar to `word`, as a tuple of one; empty if none is similar."""
    return tuple(difflib.get_close_matches(word.lower(), list(options), n=1))


def one_of(options: Iterable[str]) -> str:
    """Return the options as an English list: `a`, `b` or `c`."""
    *others, last = (f"`{option}`" for option in options)
    return f"{', '.join(others)} or {last}" if others else last


def size(text: str, *, low: int = 0, high: int = MAX_TOKENS) -> int:
    """Parse a number of tokens: `131072`, `64k` (x 1024), `1m` (x 1024 x 1024)."""
    match = _SIZE.fullmatch(text)
    tokens = int(match[1]) * _TOKENS[match[2].lower()] if match else -1
    if low <= tokens <= high:
        return tokens
    digits = re.match(r"[1-9][0-9]{0,2}(?![0-9.])", text)
    count = int(digits[0]) if digits else 64
    expected = f"a size from {low} to {high}" if match else "a size"
    raise BadValueError(expected, suggestions=(f"{count}k", f"{count * 1024}"))


def duration(text: str) -> float:
    """Parse a time in seconds: `90`, `90s`, `20m`, `1h`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise BadValueError("a duration", suggestions=("20m", "1200"))
    return float(match[1]) * _SECONDS[match[2].lower()]


def decimal(text: str, *, low: float, high: float) -> float:
    """Parse a decimal number within bounds."""
    if _DECIMAL.fullmatch(text) and low <= float(text) <= high:
        return float(text)
    raise BadValueError(f"a number from {low:g} to {high:g}")


def integer(text: str, *, low: int, high: int) -> int:
    """Parse a whole number within bounds."""
    if _INTEGER.fullmatch(text) and low <= int(text) <= high:
        return int(text)
    raise BadValueError(f"a whole number from {low} to {high}")


def gpu_layers(text: str) -> int | None:
    """Parse a number of layers; `auto` is None."""
    if text.lower() == "auto":
        return None
    try:
        return integer(text, low=0, high=9999)
    except BadValueError as error:
        raise BadValueError(f"`auto` or {error.expected}", suggestions=("auto", "999")) from None


def boolean(text: str) -> bool:
    """Parse `true`, `yes`, `on`, `1` or their opposites."""
    if text.lower() not in _BOOLEANS:
        raise BadValueError("`true` or `false`", suggestions=nearest(text, _BOOLEANS))
    return _BOOLEANS[text.lower()]


def choice(text: str, *, options: tuple[str, ...]) -> str:
    """Parse one of a few words, in any case."""
    if text.lower() not in options:
        raise BadValueError(one_of(options), suggestions=nearest(text, options))
    return text.lower()


def member(text: str, *, enum: type[MemberT]) -> MemberT:
    """Parse a member of an enumeration."""
    return enum(choice(text, options=tuple(enum)))


def word(text: str, *, pattern: str, expected: str) -> str:
    """Parse text that matches a pattern."""
    if not re.fullmatch(pattern, text):
        raise BadValueError(expected)
    return text


def comma_list(text: str, *, item: Parser = str) -> tuple[Any, ...]:
    """Parse items separated by commas; empty and duplicate items are mistakes."""
    items = [part.strip() for part in text.split(",")]
    if not all(items):
        raise BadValueError("a list with something between its commas")
    parsed: dict[str, Any] = {}
    for part in items:
        if part in parsed:
            raise BadValueError("each item once", got=part)
        try:
            parsed[part] = item(part)
        except BadValueError as error:
            raise BadValueError(error.expected, got=part) from None
    return tuple(parsed.values())


def arguments(text: str) -> tuple[str, ...]:
    """Parse command-line arguments, quoted as in a POSIX shell."""
    try:
        words = tuple(shlex.split(text))
    except ValueError:
        raise BadValueError("arguments with every quote closed") from None
    return words


def command(text: str) -> tuple[str, ...]:
    """Parse a program and its arguments."""
    words = arguments(text)
    if not words[0]:
        raise BadValueError("a program and its arguments", suggestions=("llmstack mcp",))
    return words


def host(text: str) -> str:
    """Parse an IP address or a host name, without scheme or port."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        if _HOST.fullmatch(text) and not re.fullmatch(r"[0-9.]+", text):
            return text
    raise BadValueError("an address or host name without `http://` and port", suggestions=("127.0.0.1",))


def url(text: str) -> str:
    """Parse the http(s) address of a model server; a trailing slash is removed."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment or parts.username is not None or " " in text:
        raise BadValueError("an address", suggestions=("http://127.0.0.1:8080",))
    return text.rstrip("/")


def hub_repo(text: str) -> str:
    """Parse the name of a repository on the model hub."""
    return word(text, pattern=f"{_HUB_NAME}/{_HUB_NAME}", expected="a repository such as `owner/name-GGUF`")


def hub_file(text: str) -> str:
    """Parse the path of a file in its repository, which also becomes a path on this machine."""
    pattern = rf"(?:{_FILE_NAME}/)*{_FILE_NAME}\.(?i:gguf)"
    return word(text, pattern=pattern, expected="the name of a `.gguf` file in the repository")


def local_path(text: str) -> Path:
    """Parse a path on this machine and expand `~`."""
    if text.startswith(('"', "'")):
        raise BadValueError("a path without quotes")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise BadValueError("a path below a home directory that exists") from None


def hosted(text: str) -> HostedModel:
    """Parse `<provider>/<id>`."""
    provider, slash, name = text.partition("/")
    if provider == "openai-compat":
        expected = "another prefix (`openai-compat/` is reserved)"
        raise BadValueError(expected, suggestions=(f"openai/{name or '<id>'}",))
    plain = re.sub(r"[^a-z0-9]", "", provider.lower())
    prefix = next((server for server in LOCAL_SERVERS if server.replace("_", "") == plain), provider)
    if prefix != provider:
        raise BadValueError(f"the prefix `{prefix}/`", suggestions=(f"{prefix}/{name or '<id>'}",))
    if not re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", provider) or not slash:
        raise BadValueError("`<provider>/<id>`", suggestions=("anthropic/sonnet", "ollama/qwen3"))
    if not re.fullmatch(r"[^\s/\"'][^\s\"']*", name):
        raise BadValueError(f"the name of a model after `{provider}/`")
    return HostedModel(provider, name)


def sampler(text: str) -> Sampler:
    """Parse sampling defaults such as `temp=0.2, top_p=0.9`."""
    return Sampler(**_parse_fields(text, _SAMPLER_PARSERS))


def rope_scaling(text: str) -> RopeScaling:
    """Parse a context extension such as `yarn(scale=4, orig_ctx=32768)`."""
    example = "yarn(scale=4, orig_ctx=32768)"
    match = re.fullmatch(r"(yarn|linear)\s*\((.*)\)", text)
    if match is None:
        raise BadValueError("`yarn(…)` or `linear(…)`", suggestions=(example,))
    fields = _parse_fields(match[2], _ROPE)
    if fields.keys() != _ROPE.keys():
        raise BadValueError("both `scale` and `orig_ctx`", suggestions=(example,))
    return RopeScaling("yarn" if match[1] == "yarn" else "linear", **fields)


def _parse_fields(text: str, parsers: Mapping[str, Parser]) -> dict[str, Any]:
    """Parse `name=value` items separated by commas; a duplicate name is a mistake."""
    fields: dict[str, Any] = {}
    for part in comma_list(text):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in parsers:
            suggestions = tuple(text.replace(part, f"{near}={value}", 1) for near in nearest(name, parsers))
            raise BadValueError(f"{one_of(parsers)} with `=` and a number", suggestions=suggestions, got=part)
        if name in fields:
            raise BadValueError(f"`{name}` once", got=part)
        try:
            fields[name] = parsers[name](value)
        except BadValueError as error:
            raise BadValueError(f"{error.expected} for `{name}`", got=part) from None
    return fields


_SAMPLER_PARSERS: dict[str, Parser] = {
    "temp": partial(decimal, low=0, high=5),
    "top_p": partial(decimal, low=0, high=1),
    "top_k": partial(integer, low=0, high=1_000_000),
    "min_p": partial(decimal, low=0, high=1),
    "rep_pen": partial(decimal, low=0.1, high=5),
}
_ROPE: dict[str, Parser] = {
    "scale": partial(decimal, low=1, high=1024),
    "orig_ctx": partial(size, low=256),
}
