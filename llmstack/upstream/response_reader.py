"""Reading answers from the bytes of one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httptools

from llmstack.heads import seen
from llmstack.upstream.response_head import answer_head

if TYPE_CHECKING:
    from llmstack.heads import SeenHead
    from llmstack.upstream.response_head import AnswerHead

HEAD_BYTES = 128 * 1024  # of an answer
_INFORMATION, _OK, _SWITCHING = 100, 200, 101
_BODILESS = frozenset((204, 304))


class BrokenError(Exception):
    """The connection broke, or what came on it was no answer; the text says how.

    Attributes:
        silent: not a byte of an answer had come.
    """

    def __init__(self, text: str, *, silent: bool = False) -> None:
        super().__init__(text)
        self.silent = silent


class AnswerReader:
    """Reads answers, one at a time.

    Attributes:
        head: of the answer, once it is here.
        parts: of its body that nobody has taken; `waiting` bytes in all.
        begun: a byte of it has come; `complete`: all of it has.
        between: it comes in chunks, and one has just ended.
        until_eof: it ends with the connection.
    """

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._seen: SeenHead[AnswerHead] | None = None  # the last one, which need not be parsed again
        self.parts: list[bytes] = []
        self.waiting = 0
        self.begin(no_body=False)

    def close(self) -> None:
        """Let go of the parser, which knows this object as this object knows it."""
        self._parser = None

    def begin(self, *, no_body: bool) -> None:
        """Wait for the next answer; with `no_body` it has none whatever it says (HEAD)."""
        self.head: AnswerHead | None = None
        self.begun = self.complete = self.between = self.until_eof = False
        self._no_body = no_body
        self._chunk_ended = False
        self._head_bytes = 0
        self._missing = 0  # of a body that the parser knows nothing of
        self._first: bytes | None = None  # what the answer begins with, until its head is read
        self._headers: list[tuple[str, str]] = []

    def feed(self, data: bytes) -> None:
        """Take what was read.

        Raises:
            BrokenError: it is no answer, or more than one.
        """
        known = self._seen if not (self.begun or self._no_body) else None
        if self._missing:
            self._take_body(data)
        elif known is not None and (like := known.like(data)) is not None:
            self._missing, start = like
            self.head, self.begun = known.said, True
            self._take_body(data[start:])
        else:
            self._parse(data)

    def _take_body(self, data: bytes) -> None:
        """Take a part of a body whose length is known; what follows it is for the parser to judge."""
        part, rest = data[: self._missing], data[self._missing :]
        self._missing -= len(part)
        self.complete = not self._missing
        if part:
            self.parts.append(part)
            self.waiting += len(part)
        if rest:
            self._parse(rest)

    def _parse(self, data: bytes) -> None:
        if self._parser is None:
            return
        if self.head is None:
            self._first = None if self.begun else data
            self._head_bytes += len(data)
        self.begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise BrokenError(f"what it sent is not HTTP ({_reason(error)})") from error
        # A size line ends in a line break too, but then the parser has seen it.
        self.between = self._chunk_ended and not self.complete and data.endswith(b"\r\n")
        if self.head is None and self._head_bytes > HEAD_BYTES:
            raise BrokenError(f"the headers of its answer are longer than {HEAD_BYTES} bytes")

    def take(self) -> bytes:
        """Return what has come of the body and was not taken yet."""
        parts, self.parts, self.waiting = self.parts, [], 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    # From the parser

    def on_message_begin(self) -> None:
        """Begin an answer."""
        if self.complete:
            raise BrokenError("more than one answer")
        self._headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are of no interest."""
        if self.head is None:
            self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """See what kind of answer it is."""
        parser = self._parser
        if parser is None:
            return
        status, first, self._first = parser.get_status_code(), self._first, None
        if status == _SWITCHING or status < _INFORMATION:
            raise BrokenError(f"status {status}")
        if status < _OK:
            return  # 1xx: the answer is still to come
        # After HEAD the parser waits for a body that does not come.
        self.head = answer_head(status, self._headers, keep=parser.should_keep_alive() and not self._no_body)
        bodiless = self._no_body or status in _BODILESS
        said = dict(self._headers)  # of repeated ones the last, which tells
        chunked = said.get("transfer-encoding", "").rpartition(",")[2].strip().lower() == "chunked"
        self._chunk_ended = chunked
        self.until_eof = not (bodiless or "content-length" in said or chunked)
        if self._no_body:
            self.complete = True
        elif first is not None and not (bodiless or chunked):
            self._seen = seen(first, self.head)

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if self._no_body:
            raise BrokenError("a body in answer to HEAD")
        self.parts.append(data)
        self.waiting += len(data)

    def on_chunk_header(self) -> None:
        """A chunk begins."""
        self._chunk_ended = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended."""
        self._chunk_ended = True

    def on_message_complete(self) -> None:
        """The whole answer is here."""
        if self.head is not None:
            self.complete = True


def _reason(error: Exception) -> str:
    return str(error.__context__ if isinstance(error.__context__, BrokenError) else error)
