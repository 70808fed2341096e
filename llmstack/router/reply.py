"""Answers of servers, as the router passes them on."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol, Self

from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation.failures import failure, without_in
from llmstack.router.dialects.base import FailureReport
from llmstack.upstream.client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from llmstack.providers.translation import StreamTranslation, Translated
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.upstream.client import Chunks
    from llmstack.upstream.connection import Relay, Sink

FAILED = 400
EVENTS, JSON = "text/event-stream", "application/json"


class ServerResponse(Protocol):
    """An answer, its body still to come."""

    status: int
    headers: list[tuple[str, str]]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""

    def chunks(self) -> Chunks:
        """Return what yields the body as it arrives; UpstreamError where it broke."""

    async def read(self) -> bytes:
        """Return the whole body; UpstreamError where it broke."""

    def __enter__(self) -> Self:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it, read or not."""


class BodyStream:
    """Parts of a body that are made here."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next part."""
        return await anext(self._parts)

    async def pass_on(
        self,
        sink: Sink,
        relay: Relay | None = None,  # noqa: ARG002 - no chunks of HTTP here
        ending: bytes = b"",  # noqa: ARG002
    ) -> bool:
        """Hand the rest to `sink`."""
        async for part in self._parts:
            if not sink(part):
                return False
        return True


class StaticResponse:
    """An answer that is here already."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.status = status
        self.headers = [("content-type", content_type)]
        self._body = body

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.headers[0][1] == EVENTS

    def chunks(self) -> Chunks:
        """Return it in one piece."""

        async def whole() -> AsyncIterator[bytes]:
            yield self._body

        return BodyStream(whole())

    async def read(self) -> bytes:
        """Return it."""
        return self._body

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is to let go of."""


class TranslatedResponse:
    """A provider's answer in the client's API, without what must not be shown.

    Args:
        answer: as it comes.
        call: the request.
        secrets: credentials, which some providers repeat in their errors.
        translated: the way back; None where the provider speaks the client's API.
    """

    def __init__(
        self,
        answer: ServerResponse,
        call: RoutedRequest,
        secrets: tuple[str, ...],
        translated: Translated | None,
    ) -> None:
        self._answer = answer
        self._call = call
        self._secrets = secrets
        self._translated = translated
        self.status = answer.status
        self.headers = answer.headers
        if translated is not None:
            kind = EVENTS if self.is_event_stream else JSON
            self.headers = [
                (name, kind if name == "content-type" else value) for name, value in answer.headers
            ]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self._answer.is_event_stream and self.status < FAILED

    def chunks(self) -> Chunks:
        """Return the events as they come."""
        if self._translated is None:
            return self._answer.chunks()
        return BodyStream(self._translated_chunks(self._translated.stream()))

    async def _translated_chunks(self, stream: StreamTranslation) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.chunks():
                if said := stream.feed(chunk):
                    yield said
            if said := stream.close():
                yield said
        except MalformedResponseError as error:
            raise UpstreamError(error.message) from error

    async def read(self) -> bytes:
        """Return the whole body."""
        body = await self._answer.read()
        if self.status >= FAILED:
            return self._error(body)
        if self._translated is None:
            return body
        try:
            return self._translated.answer(body)
        except MalformedResponseError as error:
            raise UpstreamError(error.message) from error

    def _error(self, body: bytes) -> bytes:
        said = failure(self.status, body, dict(self.headers), secrets=self._secrets)
        if said.retry_after is not None and "retry-after" not in dict(self.headers):
            self.headers = [*self.headers, ("retry-after", str(math.ceil(said.retry_after)))]
        if self._translated is None:
            return without_in(body, self._secrets)
        code = said.code or f"upstream_{self.status}"
        return self._call.dialect.error(FailureReport(self.status, code, said.message, "provider"))

    def __enter__(self) -> Self:
        """Return itself."""
        self._answer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it, read or not."""
        self._answer.__exit__(kind, error, trace)
