"""What an answer says before its body."""

from __future__ import annotations

import msgspec

# Of what a server answered, these describe its connection to us, are set anew, or are not its business.
_OWN_HEADERS = frozenset(
    (
        *("connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer", "upgrade"),
        *("proxy-authenticate", "server", "date", "content-length"),
    )
)
_OWN_PREFIXES = ("access-control-", "x-llmstack-")


class AnswerHead(msgspec.Struct, frozen=True, eq=False):
    """Status and headers of an answer.

    Attributes:
        headers: what is anybody's business beyond the connection it came on; names in lower case.
        content_type: in lower case; empty where it says none.
        keep: the connection is to go on after it.
    """

    status: int
    headers: list[tuple[str, str]]
    content_type: str
    keep: bool


def answer_head(status: int, headers: list[tuple[str, str]], *, keep: bool) -> AnswerHead:
    """Return the head with this status and these headers, names in lower case."""
    own, content_type = _OWN_HEADERS, ""
    for name, value in headers:
        if name == "connection":
            own = own.union([token.strip().lower() for token in value.split(",")])
        elif name == "content-type":
            content_type = content_type or value.lower()
    passed = [(n, value) for n, value in headers if n not in own and not n.startswith(_OWN_PREFIXES)]
    return AnswerHead(status, passed, content_type, keep)
