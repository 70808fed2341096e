"""Who may talk to the router: a web page must not, and beyond loopback only who has the key."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmstack.config.network import is_loopback
from llmstack.router.dialects.base import FailureReport

if TYPE_CHECKING:
    from collections.abc import Mapping


@lru_cache(maxsize=64)
def _host_of(authority: str) -> str:
    """Return the host of `host:port`, empty where it is none."""
    try:
        return urlsplit(f"//{authority}").hostname or ""
    except ValueError:
        return ""


@dataclass(frozen=True, slots=True)
class RequestGuard:
    """The check of every request.

    Attributes:
        bind: the address the router listens on.
        allowed_hosts: further names it answers to.
        api_key: what clients must send; empty where none is wanted.
        key_name: the variable the key comes from, for the error.
    """

    bind: str
    allowed_hosts: tuple[str, ...]
    api_key: str
    key_name: str

    def refusal(self, headers: Mapping[str, str]) -> FailureReport | None:
        """Return why a request with these headers (lower-case names) is refused, or None."""
        if is_loopback(self.bind):
            host = headers.get("host", "")
            if not self._known(_host_of(host)):
                return _forbidden("Host", host)
            origin = headers.get("origin")
            if origin is not None and not self._known(_origin_host(origin)):
                return _forbidden("Origin", origin)
        if self.api_key and not self._has_key(headers):
            return FailureReport(
                401,
                "invalid_api_key",
                f"this router wants the key of ${self.key_name} as `Authorization: Bearer` or `x-api-key`",
            )
        return None

    def _known(self, host: str) -> bool:
        names = (allowed.lower().strip("[]") for allowed in self.allowed_hosts)
        return bool(host) and (is_loopback(host) or host.lower().removesuffix(".") in names)

    def _has_key(self, headers: Mapping[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = bearer.strip() if scheme.lower() == "bearer" else ""
        candidates = (offered, headers.get("x-api-key", ""))
        # Headers were read as latin-1; the environment's bytes as UTF-8, or as surrogates where they are not.
        wanted = self.api_key.encode(errors="surrogateescape")
        return any(hmac.compare_digest(key.encode("latin-1"), wanted) for key in candidates)


def _origin_host(origin: str) -> str:
    """Return the host of an Origin; empty for `null` and what cannot be read."""
    try:
        return urlsplit(origin).hostname or ""
    except ValueError:
        return ""


def _forbidden(header: str, value: str) -> FailureReport:
    shown = "".join(char if char.isprintable() else "?" for char in value[:100])
    return FailureReport(
        403,
        "forbidden",
        f"{header} `{shown}` is not one this router answers to; "
        "add its host name to `allowed_hosts` in models.ini if it should",
    )
