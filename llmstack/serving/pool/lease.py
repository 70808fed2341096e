"""The leases of the pool."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Self

from llmstack.serving.base import NO_SAMPLING_DEFAULTS
from llmstack.serving.http_request import send_to

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from types import TracebackType

    from llmstack.serving.base import ModelRequest, ServerResponse
    from llmstack.serving.pool.loaded_model import Grant, LoadedModel
    from llmstack.upstream.client import Upstream


class _ModelLease:
    """What every lease of a model server has in common."""

    origin: Literal["engine"] = "engine"
    secrets: tuple[str, ...] = ()  # the engine never repeats its key
    defaults = NO_SAMPLING_DEFAULTS  # llama.cpp has them as flags
    kv = ""
    tier: str
    model: str
    _model: LoadedModel
    _upstream: Upstream

    @property
    def slot(self) -> int | None:
        """The conversation's slot; None if the engine chooses."""
        return None

    @property
    def url(self) -> str:
        """Address of the model server."""
        return self._model.server.url

    @property
    def headers(self) -> Mapping[str, str]:
        """The header with the model server's key."""
        return self._model.server.headers

    def send(self, request: ModelRequest) -> Coroutine[Any, Any, ServerResponse]:
        """Send a request to the model server, which speaks every client's API."""
        return send_to(self._upstream, self, request)

    async def failure(self) -> str | None:
        """Return why the model server ended, or None if it runs."""
        return await self._model.server.failure()

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why a proxy answered in the model server's place; None if the server answered."""
        return await self._model.server.explain(status, body)

    async def __aenter__(self) -> Self:
        """Return self."""
        return self


class ReadLease(_ModelLease):
    """The right to read from a model server: it is not stopped meanwhile, and no slot is used.

    Args:
        release: called when the lease is given back.
        upstream: the HTTP client.
        tier: its name.
        model: its loaded model.
    """

    def __init__(
        self, release: Callable[[LoadedModel], None], upstream: Upstream, tier: str, model: LoadedModel
    ) -> None:
        self._release = release
        self._upstream = upstream
        self._model = model
        self.tier = self.model = tier

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""
        self._release(self._model)


class PoolLease(_ModelLease):
    """A lease of the pool.

    Args:
        release: called when the lease is given back.
        upstream: the HTTP client.
        tier: its name.
        session: the conversation.
        grant: the model, and its slot.
        pinned: the request names its slot to the engine; else the engine chooses one by its contents.

    Attributes:
        kv: what was done about the prompt cache, in words; empty if nothing was.
    """

    _tasks_before: Mapping[int, int] = MappingProxyType({})
    _is_released = False

    def __init__(
        self,
        release: Callable[[str, LoadedModel], None],
        upstream: Upstream,
        tier: str,
        session: str,
        grant: Grant,
        *,
        pinned: bool,
    ) -> None:
        self._release = release
        self._upstream = upstream
        self._model, self._slot = grant
        self._session = session
        self._pinned = pinned
        self.tier = self.model = tier

    @property
    def slot(self) -> int | None:
        """The conversation's slot; None if the engine chooses."""
        return self._slot.index if self._pinned else None

    async def prepare(self) -> None:
        """Restore the conversation's prompt cache into its slot if it was saved; if cancelled, it ends."""
        kv, slots = self._model.kv, self._model.slots
        try:
            if kv is None:
                slots.assign(self._slot, self._session)
            elif self._pinned:
                self.kv = await kv.switch_to(slots, self._slot, self._session)
            else:
                # The engine chooses the slot that holds the most of it: its own, once that is restored.
                if kv.has_saved(self._session):
                    self.kv = await kv.switch_to(slots, self._slot, self._session)
                self._tasks_before = await kv.slot_tasks()
        except BaseException:
            self._end()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lease back."""
        try:
            if not self._pinned and not self._is_released:
                await self._find_served_slot()
        finally:
            self._end()

    async def _find_served_slot(self) -> None:
        """Find out in which slot the engine has served the request."""
        kv, slots = self._model.kv, self._model.slots
        if kv is None or self._model.state == "stopping":
            return
        after = await kv.slot_tasks()
        others = {slot.index for slot in slots.all if slot.busy and slot is not self._slot}
        changed = {index for index, task in after.items() if task != self._tasks_before.get(index)}
        slots.assign_served(self._session, changed - others)

    def _end(self) -> None:
        if not self._is_released:
            self._is_released = True
            self._model.slots.release(self._slot, served=self._pinned)
            self._release(self.tier, self._model)
