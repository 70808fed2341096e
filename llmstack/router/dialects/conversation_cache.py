"""Reading conversations without reading the same messages again in every turn.

Clients send the whole conversation with every turn. Of a body that starts like an earlier one, only the new
messages are decoded, which saves 64 % of the router's instructions for a chat of 100 KB
(tests/benchmarks/instructions.py).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from llmstack.router.dialects.parsing import Transcript, decode

if TYPE_CHECKING:
    from collections.abc import Callable

MIN_BYTES = 32 * 1024  # a shorter body is decoded faster than it is compared
MAX_CACHED_BYTES = 4 * 1024 * 1024  # of bodies; the oldest ones are dropped
LATEST = 4  # messages at the end that are always decoded: clients move their cache marks among these
_SEARCH_BYTES = 256 * 1024  # at the end of a body, in which each of the latest messages is searched


class _Message(Protocol):
    role: str


M = TypeVar("M", bound=_Message)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Prefix:
    """The start of a body that was read, up to the start of a message.

    Attributes:
        body: the whole body; the prefix ends at `end`.
        head: the part before the first message.
        transcript: of the messages in the prefix.
    """

    body: bytes
    end: int
    head: bytes
    transcript: Transcript


class ConversationReader(Generic[R, M]):
    """Reads requests that hold a conversation.

    A body that starts like an earlier one is decoded with a marker message in place of the messages that are
    known. The place where a message starts is a guess: a marker inserted there is decoded as a message of its
    own only if the guess is right.

    Args:
        decoder: decodes a request.
        messages: returns the messages of a request.
        read: adds a message to a transcript.
        member: name of the messages in the body.
        message_starts: how most messages start.
    """

    def __init__(
        self,
        decoder: msgspec.json.Decoder[R],
        messages: Callable[[R], list[M]],
        read: Callable[[M, Transcript], None],
        member: str = "messages",
        message_starts: tuple[bytes, ...] = (b'{"role"',),
    ) -> None:
        self._decoder, self._messages, self._read = decoder, messages, read
        self._head = re.compile(rb'"%b"\s*:\s*\[\s*' % member.encode())
        self._message_starts = message_starts
        self._marker_role = secrets.token_hex()  # no client can send a message with this role
        self._marker = b'{"role":"%b"},' % self._marker_role.encode()
        self._prefixes: list[_Prefix] = []  # the oldest first

    def read(self, body: bytes) -> tuple[R, Transcript]:
        """Return a request and the transcript of its messages.

        Raises:
            BadRequestError: malformed JSON or wrong types.
        """
        prefix = self._find_prefix(body) if len(body) >= MIN_BYTES else None
        result = self._read_after(body, prefix) if prefix is not None else None
        if result is not None:
            return result
        request, transcript = decode(body, self._decoder), Transcript()
        self._add(self._messages(request), transcript)
        return request, transcript

    def _add(self, messages: list[M], transcript: Transcript) -> None:
        for message in messages:
            self._read(message, transcript)

    def _find_prefix(self, body: bytes) -> _Prefix | None:
        """Return the known start of a body, an empty prefix if there is none; None if it has no messages."""
        for prefix in reversed(self._prefixes):
            if body.startswith(memoryview(prefix.body)[: prefix.end]):
                return prefix
        head = self._head.search(body)
        return _Prefix(body, head.end(), body[: head.end()], Transcript()) if head is not None else None

    def _read_after(self, body: bytes, prefix: _Prefix) -> tuple[R, Transcript] | None:
        """Read a body from the end of a prefix; None if it must be read as a whole."""
        view, marker = memoryview(body), self._marker
        start, end = prefix.end, self._find_latest(body, prefix.end)
        middle = (view[start:end], marker) if end > start else ()
        try:
            request = self._decoder.decode(b"".join((prefix.head, marker, *middle, view[end:])))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None  # decoding the whole body tells where the error is
        messages = self._messages(request)
        if not messages or messages[0].role != self._marker_role:
            return None
        last_marker = len(messages) - 1
        while messages[last_marker].role != self._marker_role:
            last_marker -= 1
        if (last_marker > 0) != bool(middle):
            return None
        transcript = prefix.transcript.copy()
        self._add(messages[1:last_marker], transcript)
        if last_marker:
            self._remember(_Prefix(body, end, prefix.head, transcript.copy()), instead_of=prefix)
        self._add(messages[last_marker + 1 :], transcript)
        return request, transcript

    def _find_latest(self, body: bytes, start: int) -> int:
        """Return where the latest messages probably start; `start` if no more messages follow it."""
        end = len(body)
        for _ in range(LATEST):
            position = max(start, end - _SEARCH_BYTES)
            for message_start in self._message_starts:  # a search that fails takes longest: narrow each one
                position = max(position, body.rfind(message_start, position, end))
            if not body.startswith(self._message_starts, position):
                return start
            end = position
        return end

    def _remember(self, prefix: _Prefix, instead_of: _Prefix) -> None:
        prefixes = [each for each in self._prefixes if each is not instead_of]
        prefixes.append(prefix)
        size = sum(len(each.body) for each in prefixes)
        while size > MAX_CACHED_BYTES:
            size -= len(prefixes.pop(0).body)
        self._prefixes = prefixes
