"""Addresses of servers as URLs, and what a URL says about who must be listening there.

| scheme | address | who may be listening |
| --- | --- | --- |
| `http`, `https` | a host and a port | anybody |
| `http+unix` | the path of a Unix socket, quoted, in place of the host | whoever may write to its directory |
| `http+child` | a child process of this one, and a port of this machine | that child, or a descendant of it |

The last two are for the router's own servers: what they are sent is proof against other users of the machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Address of a server; equal addresses are the same object.

    Attributes:
        secure: whether to use TLS.
        host: name or address; `port` is its TCP port.
        authority: for the Host header.
        socket_path: of a Unix socket, in place of host and port; empty if there is none.
        child: pid of the child that must listen on the port, itself or by a descendant; None for anybody.
    """

    secure: bool
    host: str
    port: int
    authority: str
    socket_path: str = ""
    child: int | None = None


def unix_socket_url(path: Path) -> str:
    """Return the URL of the server that listens on a Unix socket."""
    return f"http+unix://{quote(str(path), safe='')}"


def child_url(pid: int, host: str, port: int) -> str:
    """Return the URL of the server that a child process of this one runs, itself or by a descendant."""
    return f"http+child://{pid}@{host}:{port}"


@lru_cache(maxsize=64)
def split_url(url: str) -> tuple[Origin, str]:
    """Return the server of a URL, and the request target as it is written.

    Raises:
        ValueError: the URL holds a line break.
    """
    if "\n" in url:
        raise ValueError("the address of the request holds a line break")
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    if not slash and "?" in authority:
        authority, separator, query = authority.partition("?")
        path = f"{separator}{query}"
    return _origin(scheme, authority), f"/{path}"


@lru_cache(maxsize=64)
def _origin(scheme: str, authority: str) -> Origin:
    if scheme == "http+unix":
        return Origin(secure=False, host="", port=0, authority="localhost", socket_path=unquote(authority))
    parts = urlsplit(f"{scheme}://{authority}")
    secure = scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    if scheme == "http+child":
        return Origin(secure, host, port, f"{host}:{port}", child=int(parts.username or ""))
    return Origin(secure, host, port, authority)
