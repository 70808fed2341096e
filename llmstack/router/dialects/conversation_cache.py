"""Reading conversations. Clients send the whole of one with every turn: what was read is not read again."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import msgspec

from llmstack.router.dialects.parsing import Transcript, decode

if TYPE_CHECKING:
    from collections.abc import Callable

WORTH_BYTES = 32 * 1024  # a shorter body is read in less time than it takes to see what is known of it
KEPT_BYTES = 4 * 1024 * 1024  # of bodies, the oldest of which are forgotten
LATEST = 4  # messages that are read each time: clients move their marks for a cache among these
_SOUGHT_BYTES = 256 * 1024  # in which the latest messages are looked for, tools after them included


class _Message(Protocol):
    role: str


M = TypeVar("M", bound=_Message)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class _Known:
    """How a body begins, up to the start of a message, and what the messages before that one say."""

    body: bytes
    end: int
    head: bytes  # up to the first message
    said: Transcript


class ConversationReader(Generic[R, M]):
    """Reads requests that hold a conversation.

    Where a body begins as an earlier one did, it is decoded without the messages that were read then, a mark
    in their place. Where the start of a message is, is guessed: a mark put there shows whether it is.

    Args:
        decoder: of a request.
        messages: those of a request.
        read: adds one to a transcript.
        member: what they are called in the body.
        begins: how most of them do.
    """

    def __init__(
        self,
        decoder: msgspec.json.Decoder[R],
        messages: Callable[[R], list[M]],
        read: Callable[[M, Transcript], None],
        member: str = "messages",
        begins: tuple[bytes, ...] = (b'{"role"',),
    ) -> None:
        self._decoder, self._messages, self._read = decoder, messages, read
        self._head = re.compile(rb'"%b"\s*:\s*\[\s*' % member.encode())
        self._begins = begins
        self._role = secrets.token_hex()  # no client can have a message of this role
        self._mark = b'{"role":"%b"},' % self._role.encode()
        self._known: list[_Known] = []  # the oldest first

    def read(self, body: bytes) -> tuple[R, Transcript]:
        """Return a request and the tally of its messages.

        Raises:
            BadRequestError: malformed JSON or wrong types.
        """
        known = self._known_of(body) if len(body) >= WORTH_BYTES else None
        found = self._read_on(body, known) if known is not None else None
        if found is not None:
            return found
        request, said = decode(body, self._decoder), Transcript()
        self._add(self._messages(request), said)
        return request, said

    def _add(self, messages: list[M], said: Transcript) -> None:
        read = self._read
        for message in messages:
            read(message, said)

    def _known_of(self, body: bytes) -> _Known | None:
        for known in reversed(self._known):
            if body.startswith(memoryview(known.body)[: known.end]):
                return known
        head = self._head.search(body)
        return _Known(body, head.end(), body[: head.end()], Transcript()) if head is not None else None

    def _read_on(self, body: bytes, known: _Known) -> tuple[R, Transcript] | None:
        """Read a body from where it is known; None where it has to be read as a whole."""
        view, mark = memoryview(body), self._mark
        start, end = known.end, self._latest(body, known.end)
        middle = (view[start:end], mark) if end > start else ()
        try:
            request = self._decoder.decode(b"".join((known.head, mark, *middle, view[end:])))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None  # the whole body tells where the error is
        messages = self._messages(request)
        if not messages or messages[0].role != self._role:
            return None
        at = len(messages) - 1  # of the last mark
        while messages[at].role != self._role:
            at -= 1
        if (at > 0) != bool(middle):
            return None
        said = known.said.copy()
        self._add(messages[1:at], said)
        if at:
            self._keep(_Known(body, end, known.head, said.copy()), instead_of=known)
        self._add(messages[at + 1 :], said)
        return request, said

    def _latest(self, body: bytes, start: int) -> int:
        """Return where the latest messages start, `start` where all after it are; it may be a wrong guess."""
        at = len(body)
        for _ in range(LATEST):
            found = max(start, at - _SOUGHT_BYTES)
            for begin in self._begins:  # each in what is left: looking for what is not there takes longest
                found = max(found, body.rfind(begin, found, at))
            if not body.startswith(self._begins, found):
                return start
            at = found
        return at

    def _keep(self, known: _Known, instead_of: _Known) -> None:
        kept = [each for each in self._known if each is not instead_of]
        kept.append(known)
        size = sum(len(each.body) for each in kept)
        while size > KEPT_BYTES:
            size -= len(kept.pop(0).body)
        self._known = kept
