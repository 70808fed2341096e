"""Which version of the stack a project uses, and the one-line marker files that say so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from llmstack.errors import LlmstackError
from llmstack.trust.fingerprint import read_plain_file

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_REMOTE = "http://127.0.0.1:10101"


class Channel(NamedTuple):
    """`current`, `next`, or `external` with the URL of another project's router."""

    kind: Literal["current", "next", "external"]
    url: str | None = None

    @property
    def local_channel(self) -> Literal["current", "next"]:
        """Which models run on this machine."""
        return "next" if self.kind == "next" else "current"

    def __str__(self) -> str:
        return f"external {self.url}" if self.url else self.kind


CURRENT = Channel("current")
NEXT = Channel("next")


def external(url: str) -> Channel:
    """Return the channel of a thin client.

    Raises:
        LlmstackError: the URL is not an http(s) address.
    """
    from urllib.parse import urlsplit  # noqa: PLC0415 - a prompt seldom needs it, and it takes 10 ms

    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        usable = usable and not (parts.query or parts.fragment or "@" in parts.netloc)  # no key in a file
    except ValueError:
        usable = False
    if not usable or any(char.isspace() or not char.isprintable() for char in url):
        raise LlmstackError(
            f"expected the address of a router such as {DEFAULT_REMOTE}, got {url!r}",
            hint="give the address with http:// and the port",
        )
    return Channel("external", url.rstrip("/"))


def read_marker(path: Path) -> Channel | None:
    """Return the channel that a marker file names; None where there is no such file.

    Raises:
        LlmstackError: the file says something else than a channel.
    """
    data = read_plain_file(path)
    if data is None:
        return None
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
    """Write a marker file."""
    from llmstack.files import write_atomic  # noqa: PLC0415 - a prompt only reads

    write_atomic(path, f"{channel}\n")
