"""A model to call: synchronously, asynchronously, or as a stream."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypedDict

from anyio.from_thread import start_blocking_portal

from llmstack.providers.base import MAX_TOKENS, PromptRequest, Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Unpack

    from anyio.from_thread import BlockingPortal

    from llmstack.providers.base import ModelSource


class CallOptions(TypedDict, total=False):
    """Parameters of a call besides the prompt, as those of `Model.call`."""

    max_tokens: int
    temperature: float | None
    system: str | None
    reasoning_effort: str | None


class Model:
    """One model of one provider.

    A prompt is a question, or the messages of a chat completion. `with model:` keeps an MCP server running
    between synchronous calls, `async with model:` between asynchronous ones; without either, each call stops
    the server that it started.
    """

    def __init__(self, source: ModelSource) -> None:
        self._source = source
        self._portal: BlockingPortal | None = None
        self._keeps_source_open = False
        self._stack = ExitStack()

    @property
    def provider(self) -> str:
        """The provider's prefix."""
        return self._source.provider

    @property
    def name(self) -> str:
        """The model's full name; empty if the provider chooses the model."""
        return self._source.model

    def call(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        max_tokens: int = MAX_TOKENS,
        temperature: float | None = None,
        system: str | None = None,
        reasoning_effort: str | None = None,
    ) -> Result:
        """Return the result for a prompt.

        Can be called from anywhere; inside an event loop prefer `acall`, which does not block the loop.

        Args:
            prompt: a question, or the messages of a conversation.
            max_tokens: maximum length of the output.
            temperature: the model's own by default.
            system: the system prompt.
            reasoning_effort: `low`, `medium`, `high` …; the model's own by default.

        Raises:
            ProviderError: the call failed.
        """
        options: CallOptions = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "system": system,
            "reasoning_effort": reasoning_effort,
        }
        with self._event_loop() as portal:
            return portal.call(lambda: self.acall(prompt, **options))

    async def acall(
        self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[CallOptions]
    ) -> Result:
        """Return the result for a prompt, asynchronously. See `call`."""
        try:
            return await self._source.answer(PromptRequest.from_prompt(prompt, **options))
        finally:
            await self._close_source()

    def stream(self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[CallOptions]) -> TextStream:
        """Return the output as an iterator of pieces, whose `result` is set at the end. See `call`."""
        return TextStream(self._stream_in_thread(PromptRequest.from_prompt(prompt, **options)))

    def astream(
        self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[CallOptions]
    ) -> AsyncTextStream:
        """Return the output as an asynchronous iterator of pieces. See `stream`."""
        return AsyncTextStream(self._stream(PromptRequest.from_prompt(prompt, **options)))

    async def _stream(self, request: PromptRequest) -> AsyncGenerator[str | Result]:
        pieces = self._source.stream(request)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            await self._close_source()

    def _stream_in_thread(self, request: PromptRequest) -> Generator[str | Result]:
        """Yield the pieces of a stream that one task consumes in the event loop of another thread."""
        queue: SimpleQueue[str | Result | None] = SimpleQueue()

        async def consume() -> None:
            async for piece in self._stream(request):
                queue.put(piece)

        with self._event_loop() as portal:
            future = portal.start_task_soon(consume)
            future.add_done_callback(lambda _: queue.put(None))
            try:
                while (piece := queue.get()) is not None:
                    yield piece
                future.result()
            finally:
                future.cancel()

    @contextmanager
    def _event_loop(self) -> Iterator[BlockingPortal]:
        """Yield the portal to an event loop in another thread: that of `with model:`, or a new one."""
        if self._portal is not None:
            yield self._portal
            return
        with start_blocking_portal() as portal:
            yield portal

    async def _close_source(self) -> None:
        if not self._keeps_source_open:
            await self._source.close()

    def __enter__(self) -> Self:
        """Keep an MCP server running between synchronous calls."""
        self._portal = self._stack.enter_context(start_blocking_portal())
        self._keeps_source_open = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server that calls started."""
        try:
            if self._portal is not None:
                self._portal.call(self._source.close)
        finally:
            self._portal, self._keeps_source_open = None, False
            self._stack.close()

    async def __aenter__(self) -> Self:
        """Keep an MCP server running between asynchronous calls."""
        self._keeps_source_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the server that calls started."""
        self._keeps_source_open = False
        await self._source.close()


class TextStream:
    """The output of a call as it arrives. Can be iterated once.

    Attributes:
        result: the whole result; None until the last piece was yielded.
    """

    def __init__(self, pieces: Generator[str | Result]) -> None:
        self._pieces = pieces
        self.result: Result | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces of the output."""
        for piece in self._pieces:
            if isinstance(piece, Result):
                self.result = piece
            else:
                yield piece

    def close(self) -> None:
        """End the call, if it still runs; later pieces are lost."""
        self._pieces.close()


class AsyncTextStream:
    """The output of a call as it arrives, asynchronously. Can be iterated once.

    Attributes:
        result: the whole result; None until the last piece was yielded.
    """

    def __init__(self, pieces: AsyncGenerator[str | Result]) -> None:
        self._pieces = pieces
        self.result: Result | None = None

    async def __aiter__(self) -> AsyncGenerator[str]:
        """Yield the pieces of the output."""
        async for piece in self._pieces:
            if isinstance(piece, Result):
                self.result = piece
            else:
                yield piece
