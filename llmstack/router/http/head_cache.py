"""The heads of the requests that came last, on any connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.http_heads import MAX_HEAD_BYTES, remember_head

if TYPE_CHECKING:
    from llmstack.http_heads import ParsedHead
    from llmstack.router.http.exchange import RequestHead

MAX_HEADS = 16  # one or two for each agent that is at work


class HeadCache:
    """The heads that came last: a client sends the same one with every turn."""

    def __init__(self) -> None:
        self._heads: list[ParsedHead[RequestHead]] = []  # the latest first

    def find(self, data: memoryview) -> tuple[RequestHead, int, int] | None:
        """Return the head at the start of `data`, and length and position of the body; None if it is new."""
        start = bytes(data[:MAX_HEAD_BYTES])
        for head in self._heads:
            if (match := head.match(start)) is not None:
                return head.value, *match
        return None

    def add(self, data: memoryview, head: RequestHead) -> None:
        """Add the head at the start of `data`, if it is one that can be recognized."""
        is_plain = head.method == "POST" and head.persistent and "transfer-encoding" not in head.headers
        if is_plain and (parsed := remember_head(bytes(data[:MAX_HEAD_BYTES]), head)) is not None:
            self._heads = [parsed, *self._heads[: MAX_HEADS - 1]]
