"""The channel of a project, i.e. which models it uses, and the one-line marker files that name it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from llmstack.errors import LlmstackError
from llmstack.trust.plain_files import read_plain_file

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_REMOTE = "http://127.0.0.1:10101"


class Channel(NamedTuple):
    """`current` or `next` models, or `external` with the URL of another project's router."""

    kind: Literal["current", "next", "external"]
    url: str | None = None

    @property
    def local_channel(self) -> Literal["current", "next"]:
        """The channel of the models that run on this machine."""
        return "next" if self.kind == "next" else "current"

    def __str__(self) -> str:
        return f"external {self.url}" if self.url else self.kind


CURRENT = Channel("current")
NEXT = Channel("next")


def external(url: str) -> Channel:
    """Return the channel of a thin client, which uses the router at this URL.

    Raises:
        LlmstackError: the URL is not the http(s) address of a router, or contains a key.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - takes 10 ms, and a prompt seldom needs it

    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        # Keys must not get into a marker file.
        is_valid = is_valid and not (parts.query or parts.fragment or "@" in parts.netloc)
    except ValueError:
        is_valid = False
    if not is_valid or any(char.isspace() or not char.isprintable() for char in url):
        raise LlmstackError(
            f"expected the address of a router such as {DEFAULT_REMOTE}, got {url!r}",
            hint="give the address with http:// and the port",
        )
    return Channel("external", url.rstrip("/"))


def read_marker(path: Path) -> Channel | None:
    """Return the channel that a marker file names; None if the file is missing.

    Raises:
        LlmstackError: the file cannot be read or does not name a channel.
    """
    data = read_plain_file(path)
    return parse_marker(data, path) if data is not None else None


def parse_marker(data: bytes, path: Path) -> Channel:
    """Return the channel that the content of a marker file names; `path` is for the error.

    Raises:
        LlmstackError: it does not name a channel.
    """
    text = data.decode("utf-8", "replace")
    words = text.split()
    match words:
        case ["current"]:
            return CURRENT
        case ["next"]:
            return NEXT
        case ["external", url]:
            try:
                return external(url)
            except LlmstackError as error:
                raise LlmstackError(f"{path}:1: {error.message}", hint=error.hint) from error
        case _:
            raise LlmstackError(
                f"{path}:1: expected `current`, `next` or `external <url>`, got {text.strip()[:80]!r}",
                hint="write it again with `llmstack install --current`",
            )


def write_marker(path: Path, channel: Channel) -> None:
    """Write a marker file that names the channel."""
    from llmstack.files import write_atomic  # noqa: PLC0415 - a prompt only reads markers

    write_atomic(path, f"{channel}\n")
