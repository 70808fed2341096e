"""The leases that the built-in pool hands out."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, Self

from llmstack.serving.base import NO_DEFAULTS
from llmstack.serving.http_request import send_to

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from llmstack.serving.base import ModelRequest, ServerResponse
    from llmstack.serving.pool.loaded_model import Grant, LoadedModel
    from llmstack.upstream.client import Upstream


class PoolLease:
    """A lease of the built-in pool.

    Args:
        release: takes it back.
        upstream: the HTTP client.
        tier: its name.
        session: the conversation.
        granted: the model, and its slot.
        pinned: the request names its slot to the engine; else the engine chooses, by what the slots hold.

    Attributes:
        kv: what was done about the prompt cache, in words; empty where nothing.
    """

    origin: Literal["engine"] = "engine"
    secrets: tuple[str, ...] = ()  # its key ends with it, and it never says it
    defaults = NO_DEFAULTS  # llama.cpp has them as flags
    kv = ""
    _before: Mapping[int, int] = MappingProxyType({})
    _given_back = False

    def __init__(
        self,
        release: Callable[[str, LoadedModel], None],
        upstream: Upstream,
        tier: str,
        session: str,
        granted: Grant,
        *,
        pinned: bool,
    ) -> None:
        self._release = release
        self._upstream = upstream
        self._model, self._slot = granted
        self._session = session
        self._pinned = pinned
        self.tier = self.model = tier

    @property
    def url(self) -> str:
        """Address of the model server."""
        return self._model.server.url

    @property
    def slot(self) -> int | None:
        """The conversation's slot."""
        return self._slot.index if self._pinned else None

    @property
    def headers(self) -> Mapping[str, str]:
        """The model server's key."""
        return self._model.server.headers

    async def prepare(self) -> None:
        """Bring the conversation's prompt into its slot, where it was saved. Cancelled, the lease is over."""
        kv, slots = self._model.kv, self._model.slots
        try:
            if kv is None:
                slots.holds(self._slot, self._session)
            elif self._pinned:
                self.kv = await kv.enter(slots, self._slot, self._session)
            else:
                # The engine will find the slot that holds the most of it: its own, once that is restored.
                if kv.keeps(self._session):
                    self.kv = await kv.enter(slots, self._slot, self._session)
                self._before = await kv.tasks()
        except BaseException:
            self._give_back()
            raise

    async def send(self, request: ModelRequest) -> ServerResponse:
        """Send a request to the model server, which speaks every client's API."""
        return await send_to(self._upstream, self, request)

    async def failure(self) -> str | None:
        """Return why the model server ended, if it did."""
        return await self._model.server.failure()

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why, where an answer with this status is not the model server's own."""
        return await self._model.server.explain(status, body)

    async def __aenter__(self) -> Self:
        """Return itself."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""
        try:
            if not self._pinned and not self._given_back:
                await self._find()
        finally:
            self._give_back()

    async def _find(self) -> None:
        """Find out in which slot the engine has served it."""
        kv, slots = self._model.kv, self._model.slots
        if kv is None or self._model.state == "stopping":
            return
        after = await kv.tasks()
        others = {slot.index for slot in slots.all if slot.busy and slot is not self._slot}
        changed = {index for index, task in after.items() if task != self._before.get(index)}
        slots.served(self._session, changed - others)

    def _give_back(self) -> None:
        if not self._given_back:
            self._given_back = True
            self._model.slots.give_back(self._slot, served=self._pinned)
            self._release(self.tier, self._model)
