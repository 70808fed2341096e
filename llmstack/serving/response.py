"""Responses that do not come straight from the wire: made here, or translated into the client's API."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

from llmstack.process.worker import WorkerFailedError
from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation.failures import parse_failure
from llmstack.serving.errors import FailureReport
from llmstack.units import MB
from llmstack.upstream.client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from types import TracebackType

    from llmstack.process.worker import Worker
    from llmstack.providers.translation import StreamTranslation, TranslatedRequest
    from llmstack.serving.base import ServerResponse
    from llmstack.upstream.client import Chunks
    from llmstack.upstream.connection import Relay, Sink

FIRST_ERROR_STATUS = 400
_MAX_BYTES_HERE = MB // 8  # a larger answer is translated in the worker: 1 MB may take 0.2 s
EVENT_STREAM, JSON = "text/event-stream", "application/json"


class BodyStream:
    """A body that is produced here, part by part."""

    def __init__(self, parts: AsyncIterator[bytes]) -> None:
        self._parts = parts

    def __aiter__(self) -> Self:
        """Return self."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next part."""
        return await anext(self._parts)

    async def pass_on(
        self,
        sink: Sink,
        relay: Relay | None = None,  # noqa: ARG002 - there are no HTTP chunks to relay
        ending: bytes = b"",  # noqa: ARG002
    ) -> bool:
        """Hand the remaining parts to `sink`; return False if it cannot accept more for now."""
        async for part in self._parts:
            if not sink(part):
                return False
        return True


class StaticResponse:
    """A response whose body is complete."""

    def __init__(self, status: int, body: bytes, content_type: str) -> None:
        self.status = status
        self.headers = [("content-type", content_type)]
        self._body = body

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self.headers[0][1] == EVENT_STREAM

    def chunks(self) -> Chunks:
        """Return the body in one part."""

        async def parts() -> AsyncIterator[bytes]:
            yield self._body

        return BodyStream(parts())

    async def read(self, limit: int) -> bytes:  # noqa: ARG002 - it is in memory already
        """Return the body."""
        return self._body

    def __enter__(self) -> Self:
        """Return self."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""


class TranslatedResponse:
    """A provider's response in the client's API.

    Args:
        response: as it comes from the provider.
        format_error: returns a failure as an error of the client's API.
        secrets: credentials, which some providers repeat in their errors.
        translated: translates back; None if the provider speaks the client's API.
        worker: for a large answer.
    """

    def __init__(
        self,
        response: ServerResponse,
        format_error: Callable[[FailureReport], bytes],
        secrets: tuple[str, ...],
        translated: TranslatedRequest | None,
        worker: Worker,
    ) -> None:
        self._worker = worker
        self._response = response
        self._format_error = format_error
        self._secrets = secrets
        self._translated = translated
        self.status = response.status
        self.headers = response.headers
        if translated is not None:
            content_type = EVENT_STREAM if self.is_event_stream else JSON
            self.headers = [
                (name, content_type if name == "content-type" else value) for name, value in response.headers
            ]

    @property
    def is_event_stream(self) -> bool:
        """Whether the body is server-sent events."""
        return self._response.is_event_stream and self.status < FIRST_ERROR_STATUS

    def chunks(self) -> Chunks:
        """Return an iterator over the events as they come."""
        if self._translated is None:
            return self._response.chunks()
        return BodyStream(self._translated_parts(self._translated.start_stream()))

    async def _translated_parts(self, stream: StreamTranslation) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.chunks():
                if events := stream.feed(chunk):
                    yield events
            if events := stream.close():
                yield events
        except MalformedResponseError as error:
            raise UpstreamError(error.message) from error

    async def read(self, limit: int) -> bytes:
        """Return the whole body; if it is longer than `limit` bytes, its start, which is longer, too.

        Raises:
            UpstreamError: the connection broke before its end, or the body cannot be translated.
        """
        if self.status >= FIRST_ERROR_STATUS:
            return self._error(await self._response.read(limit))
        if self._translated is None:
            return await self._response.read(limit)
        body = await self._response.read(limit)
        if len(body) > limit:
            raise UpstreamError(
                f"its answer is larger than {limit // MB} MB, and is in another API than the client's"
            )
        try:
            if len(body) <= _MAX_BYTES_HERE:
                return self._translated.translate_response(body)
            return await self._worker.run(self._translated.translate_response, body)
        except WorkerFailedError as error:
            raise UpstreamError("its answer takes too long or too much memory to translate") from error
        except MalformedResponseError as error:
            raise UpstreamError(error.message) from error

    def _error(self, body: bytes) -> bytes:
        reported = parse_failure(self.status, body, dict(self.headers), secrets=self._secrets)
        if reported.retry_after is not None and "retry-after" not in dict(self.headers):
            self.headers = [*self.headers, ("retry-after", str(math.ceil(reported.retry_after)))]
        if self._translated is None:
            return body
        code = reported.code or f"upstream_{self.status}"
        return self._format_error(FailureReport(self.status, code, reported.message, "provider"))

    def __enter__(self) -> Self:
        """Return self."""
        self._response.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the provider's response, whether it was read or not."""
        self._response.__exit__(kind, error, trace)
