"""Who may talk to the router: web pages may not, and other machines only with the key."""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from llmstack.config.network import is_loopback
from llmstack.serving.errors import FailureReport

if TYPE_CHECKING:
    from collections.abc import Mapping


# `host` or `host:port`, an IPv6 address in brackets; nothing else, such as `[::1].evil.example`.
_AUTHORITY = re.compile(r"(?:\[([0-9a-fA-F:.]+)\]|([a-zA-Z0-9._-]+))(?::\d*)?")
# Sec-Fetch-Site of requests that no other page caused: a typed address, or a page below /upstream/.
_OWN_SITES = frozenset(("none", "same-origin"))


@lru_cache(maxsize=64)
def _host_in(authority: str) -> str:
    """Return the host of `host:port`; empty if it is malformed."""
    match = _AUTHORITY.fullmatch(authority)
    return (match[1] or match[2]) if match is not None else ""


@dataclass(frozen=True, slots=True)
class RequestAuth:
    """Checks every request.

    Attributes:
        bind: the address the router listens on.
        allowed_hosts: further names it answers to.
        api_key: what clients must send; empty if no key is required.
        key_name: the variable that holds the key, for the error.
        token: what the owner's commands send, see router_proof; counts as the key.
    """

    bind: str
    allowed_hosts: tuple[str, ...]
    api_key: str
    key_name: str
    token: str = ""

    def check(self, headers: Mapping[str, str]) -> FailureReport | None:
        """Return why a request with these headers (names in lower case) is refused, or None."""
        if is_loopback(self.bind):
            host = headers.get("host", "")
            if not self._is_allowed(_host_in(host)):
                return _forbidden("Host", host)
            origin = headers.get("origin")
            if origin is not None and not self._is_allowed(_origin_host(origin)):
                return _forbidden("Origin", origin)
            site = headers.get("sec-fetch-site")
            if site is not None and origin is None and site not in _OWN_SITES:
                return _FOREIGN_PAGE
        if self.api_key and not self.is_authorized(headers):
            return FailureReport(
                401,
                "invalid_api_key",
                f"this router requires the key in ${self.key_name} as `Authorization: Bearer` or `x-api-key`",
            )
        return None

    def check_change(self, headers: Mapping[str, str]) -> FailureReport | None:
        """Return why a request with these headers may not load, unload or reload anything, or None.

        On loopback, requests of any program and user of this machine arrive here.
        """
        if self.is_authorized(headers):
            return None
        return FailureReport(
            403,
            "owner_required",
            "only the owner of this stack may change it: use `llmstack load`, `unload` or `reload`"
            + (f", or send the key in ${self.key_name}" if self.api_key else ""),
        )

    def _is_allowed(self, host: str) -> bool:
        names = (allowed.lower().strip("[]") for allowed in self.allowed_hosts)
        return bool(host) and (is_loopback(host) or host.lower().removesuffix(".") in names)

    def is_authorized(self, headers: Mapping[str, str]) -> bool:
        """Return whether these headers have the key or the owner's token."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        offered = bearer.strip() if scheme.lower() == "bearer" else ""
        candidates = (offered, headers.get("x-api-key", ""))
        # Headers are decoded as latin-1, environment variables as UTF-8 with surrogate escapes.
        secrets = [secret.encode(errors="surrogateescape") for secret in (self.api_key, self.token) if secret]
        return any(
            hmac.compare_digest(candidate.encode("latin-1"), secret)
            for candidate in candidates
            for secret in secrets
        )


def _origin_host(origin: str) -> str:
    """Return the host of an Origin; empty for `null` and for malformed ones."""
    return _host_in(origin.partition("://")[2])


_FOREIGN_PAGE = FailureReport(
    403,
    "forbidden",
    "a web page of another origin sent this request without naming itself, as images and links do "
    "(Sec-Fetch-Site); a page whose host is local or in `allowed_hosts` may use `fetch`, which names it",
)


def _forbidden(header: str, value: str) -> FailureReport:
    shown = "".join(char if char.isprintable() else "?" for char in value[:100])
    return FailureReport(
        403,
        "forbidden",
        f"{header} `{shown}` is not one this router answers to; "
        "add its host name to `allowed_hosts` in models.ini if it should",
    )
