"""One model to call: at once, asynchronously, or piece by piece."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self, TypedDict

from anyio.from_thread import start_blocking_portal

from llmstack.providers.base import MAX_TOKENS, Ask, Result

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Unpack

    from anyio.from_thread import BlockingPortal

    from llmstack.providers.base import Source


class Options(TypedDict, total=False):
    """What may be said beside the prompt, as `call` says it."""

    max_tokens: int
    temperature: float | None
    system: str | None
    reasoning_effort: str | None


class Model:
    """One model of one provider.

    A prompt is one question, or the messages of a chat completion. `with model:` keeps what it runs (an MCP
    server) between synchronous calls, `async with model:` between asynchronous ones; without either, each
    call ends what it started.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._portal: BlockingPortal | None = None
        self._held = False
        self._stack = ExitStack()

    @property
    def provider(self) -> str:
        """The provider's prefix."""
        return self._source.provider

    @property
    def name(self) -> str:
        """The model's full name; empty where the provider chooses."""
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
        """Return the answer to a prompt; ProviderError where there is none.

        Works wherever it is called from; in an event loop use `acall`, which does not hold the loop up.
        """
        options: Options = {
            "max_tokens": max_tokens,
            "temperature": temperature,
            "system": system,
            "reasoning_effort": reasoning_effort,
        }
        with self._running() as portal:
            return portal.call(lambda: self.acall(prompt, **options))

    async def acall(self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Result:
        """Return the answer to a prompt, asynchronously."""
        try:
            return await self._source.answer(Ask.of(prompt, **options))
        finally:
            await self._let_go()

    def stream(self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Pieces:
        """Return the text piece by piece; its `result` is the whole answer once all have come."""
        return Pieces(self._pulled(Ask.of(prompt, **options)))

    def astream(self, prompt: str | Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> AsyncPieces:
        """Return the text piece by piece, asynchronously."""
        return AsyncPieces(self._pieces(Ask.of(prompt, **options)))

    async def _pieces(self, ask: Ask) -> AsyncGenerator[str | Result]:
        pieces = self._source.pieces(ask)
        try:
            async for piece in pieces:
                yield piece
        finally:
            await pieces.aclose()
            await self._let_go()

    def _pulled(self, ask: Ask) -> Iterator[str | Result]:
        """Yield what one task yields, from its start to its end, in the event loop of another thread."""
        come: SimpleQueue[str | Result | None] = SimpleQueue()

        async def work() -> None:
            async for piece in self._pieces(ask):
                come.put(piece)

        with self._running() as portal:
            working = portal.start_task_soon(work)
            working.add_done_callback(lambda _: come.put(None))
            try:
                while (piece := come.get()) is not None:
                    yield piece
                working.result()
            finally:
                working.cancel()

    @contextmanager
    def _running(self) -> Iterator[BlockingPortal]:
        if self._portal is not None:
            yield self._portal
            return
        with start_blocking_portal() as portal:
            yield portal

    async def _let_go(self) -> None:
        if not self._held:
            await self._source.close()

    def __enter__(self) -> Self:
        """Keep what it runs between calls."""
        self._portal = self._stack.enter_context(start_blocking_portal())
        self._held = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what it runs."""
        try:
            if self._portal is not None:
                self._portal.call(self._source.close)
        finally:
            self._portal, self._held = None, False
            self._stack.close()

    async def __aenter__(self) -> Self:
        """Keep what it runs between calls."""
        self._held = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what it runs."""
        self._held = False
        await self._source.close()


class Pieces:
    """The text of one answer, as it comes.

    Attributes:
        result: the whole answer; None until every piece has come.
    """

    def __init__(self, pieces: Iterator[str | Result]) -> None:
        self._pieces = pieces
        self.result: Result | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the pieces; once."""
        for piece in self._pieces:
            if isinstance(piece, Result):
                self.result = piece
            else:
                yield piece


class AsyncPieces:
    """The text of one answer, as it comes, asynchronously.

    Attributes:
        result: the whole answer; None until every piece has come.
    """

    def __init__(self, pieces: AsyncGenerator[str | Result]) -> None:
        self._pieces = pieces
        self.result: Result | None = None

    async def __aiter__(self) -> AsyncGenerator[str]:
        """Yield the pieces; once."""
        async for piece in self._pieces:
            if isinstance(piece, Result):
                self.result = piece
            else:
                yield piece
