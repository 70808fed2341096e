"""Heads of requests that came before, and need not be parsed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.heads import MOST_BYTES, seen

if TYPE_CHECKING:
    from llmstack.heads import SeenHead
    from llmstack.router.http.exchange import RequestHead

HEADS = 16  # that are kept: of each agent that asks at the moment, one or two


class Heads:
    """The heads that came last, on any connection: a client sends the same with every turn."""

    def __init__(self) -> None:
        self._seen: list[SeenHead[RequestHead]] = []  # the latest first

    def find(self, data: memoryview) -> tuple[RequestHead, int, int] | None:
        """Return the head that `data` begins with, the length of the body, and where that begins."""
        start = bytes(data[:MOST_BYTES])
        for head in self._seen:
            if (like := head.like(start)) is not None:
                return head.said, *like
        return None

    def keep(self, data: memoryview, head: RequestHead) -> None:
        """Keep a head that `data` begins with, where it is one that comes again."""
        plain = head.method == "POST" and head.persistent and "transfer-encoding" not in head.headers
        if plain and (found := seen(bytes(data[:MOST_BYTES]), head)) is not None:
            self._seen = [found, *self._seen[: HEADS - 1]]
