"""The part of a response before its body."""

from __future__ import annotations

import msgspec

# Headers of a server that describe its connection to us, that we set ourselves, or that are not its to set.
_NOT_PASSED_ON = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"),
        *("proxy-authenticate", "proxy-authentication-info", "server", "date", "content-length"),
        *("x-request-id", "alt-svc"),
        # What makes a browser store or delete something for the router's address.
        *("set-cookie", "set-cookie2", "clear-site-data", "strict-transport-security", "expect-ct"),
        *("public-key-pins", "public-key-pins-report-only", "report-to", "reporting-endpoints", "nel"),
        *("accept-ch", "service-worker-allowed", "use-as-dictionary", "set-login", "refresh"),
        *("activate-storage-access", "sec-session-registration", "secure-session-registration"),
        "x-sendfile",  # a web server in front of the router would send a file of its own
    )
)
_PREFIXES_NOT_PASSED_ON = ("access-control-", "x-llmstack-", "x-accel-", "attribution-reporting-")


class ResponseHead(msgspec.Struct, frozen=True, eq=False):
    """Status and headers of a response.

    Attributes:
        status: HTTP status.
        headers: those to pass on to the client; names in lower case.
        content_type: in lower case; empty if there is none.
        keep_alive: the connection can serve another request afterwards.
    """

    status: int
    headers: list[tuple[str, str]]
    content_type: str
    keep_alive: bool


def response_head(status: int, headers: list[tuple[str, str]], *, keep_alive: bool) -> ResponseHead:
    """Return the head with this status and these headers (names in lower case)."""
    excluded, content_type = _NOT_PASSED_ON, ""
    for name, value in headers:
        if name == "connection":
            excluded = excluded.union([token.strip().lower() for token in value.split(",")])
        elif name == "content-type":
            content_type = content_type or value.lower()
    passed_on = [
        (name, value)
        for name, value in headers
        if name not in excluded and not name.startswith(_PREFIXES_NOT_PASSED_ON)
    ]
    return ResponseHead(status, passed_on, content_type, keep_alive)
