"""What the running router knows: configuration, availability, swapper, what it did lately."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmstack.config import load
from llmstack.config.model import BackendKind, Role
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO, StackState
from llmstack.router.admin.metrics import Metrics
from llmstack.router.failover import Cooldowns
from llmstack.router.sessions import Sessions, counted_in
from llmstack.serving.base import ModelState
from llmstack.serving.memory.survey import survey

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project
    from llmstack.router.access_log import AccessRecord
    from llmstack.router.auth import RequestGuard
    from llmstack.router.failover import Kind
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.serving.base import Lease, Swapper
    from llmstack.serving.memory.eviction import MemoryPlan
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.remote.lease import Backend as Serving
    from llmstack.upstream.client import Upstream

_log = logging.getLogger(__name__)

RECENT = 50
# Settings that are read at the start only.
FIXED = (
    *("host", "router_port", "swap_port", "litellm_port", "start_port"),
    *("swapper", "api_key_env", "allowed_hosts"),
)


@dataclass(slots=True)
class Service:
    """The router's state. Made inside the event loop.

    Attributes:
        config: as the running channel has it.
        found: what this machine can serve.
        backends: what serves the tiers that the swapper does not, by kind.
        env: of the router, for looking at the machine again.
        in_flight: requests being served.
    """

    project: Project
    channel: Channel
    config: StackConfig
    guard: RequestGuard
    found: Survey
    swapper: Swapper
    upstream: Upstream
    env: Mapping[str, str]
    backends: Mapping[BackendKind, Serving] = field(default_factory=dict)
    recent: deque[AccessRecord] = field(default_factory=lambda: deque(maxlen=RECENT))
    started: float = field(default_factory=time.time)
    in_flight: int = 0
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    sessions: Sessions = field(default_factory=Sessions)
    metrics: Metrics = field(init=False)
    _warming: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _evicting: tuple[MemoryPlan, frozenset[str], frozenset[str]] | None = None  # what was found last

    def __post_init__(self) -> None:
        """Begin to count."""
        self.metrics = Metrics(self.swapper.states, lambda: self.in_flight)

    @property
    def unavailable(self) -> dict[str, str]:
        """Tiers that cannot start, with the reason."""
        return self.found.unavailable

    @property
    def preloaded(self) -> str | None:
        """The tier that is loaded at start: role fast, where it can start."""
        fast = self.config.by_role(Role.FAST)
        usable = fast is not None and fast.backend is BackendKind.GGUF and fast.name not in self.unavailable
        return fast.name if fast is not None and usable else None

    def state(self, tier: Tier) -> ModelState:
        """Return what is known of a tier now; nothing is probed."""
        if tier.name in self.unavailable:
            return ModelState("down", detail=self.unavailable[tier.name])
        backend = self.backends.get(tier.backend)
        if backend is not None:
            return backend.state(tier.name)
        return self.swapper.state(tier.name) or ModelState("remote")

    def stack_state(self) -> StackState:
        """Return what a decision is given of the tiers."""
        resident = self.swapper.resident()
        evicting = self._evicting_beside(resident)
        return StackState(
            unavailable=self.unavailable,
            cooling=self.cooldowns.cooling(),
            resident=resident,
            evicting=evicting,
            factors=self.sessions.factors,
        )

    def _evicting_beside(self, resident: frozenset[str]) -> frozenset[str]:
        plan, known = self.found.plan, self._evicting
        if known is None or known[0] is not plan or known[1] != resident:
            known = self._evicting = (plan, resident, plan.evicting(resident))
        return known[2]

    def acquire(self, call: RoutedRequest) -> Awaitable[Lease]:
        """Wait for the right to use the tier of a request.

        Raises:
            SwapError: it cannot be used now.
        """
        known = self.config.tiers.get(call.tier)
        backend = self.backends.get(known.backend) if known is not None else None
        if backend is not None:
            return backend.acquire(call.tier, call.session)
        pinned = call.renames and call.dialect.slots
        return self.swapper.acquire(call.tier, call.session, pinned=pinned)

    def is_up(self, tier: str) -> bool:
        """Return whether a tier could serve at once."""
        known = self.config.tiers.get(tier)  # gone, where the file was edited meanwhile
        return known is not None and self.state(known).state in {"resident", "remote"}

    def has_place(self, call: RoutedRequest) -> bool:
        """Return whether the tier of a request serves it without waiting."""
        tier = self.config.tiers.get(call.tier)
        if tier is None:
            return False
        backend = self.backends.get(tier.backend)
        if backend is not None:
            return backend.state(tier.name).state == "resident"
        return self.swapper.has_place(tier.name)

    def while_loading(self, call: RoutedRequest) -> None:
        """With `while_loading = resident`, let a tier that is up serve, and load the chosen one meanwhile."""
        if self.config.routing.while_loading == "wait" or call.asked != AUTO or self.is_up(call.tier):
            return
        if self.config.tiers[call.tier].backend is not BackendKind.GGUF:
            return  # what serves it starts by itself
        cooling = self.cooldowns.cooling()
        up = [other for other in call.others if other not in cooling and self.is_up(other)]
        if up:
            self.warm(call.tier)
            call.stand_in(up[0])

    def warm(self, tier: str) -> None:
        """Make a tier resident in the background."""
        if tier not in self._warming:
            self._warming[tier] = task = asyncio.create_task(self._load(tier))
            task.add_done_callback(lambda _: self._warming.pop(tier))

    async def _load(self, tier: str) -> None:
        try:
            await self.swapper.load(tier)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; the router serves the other tiers
            _log.error("loading %s in the background failed: %s", tier, error)

    def alternative(self, call: RoutedRequest, kind: Kind) -> str | None:
        """Return the best tier that may serve in place of the one that failed, if there is one."""
        failed, cooling = self.config.tiers.get(call.tier), self.cooldowns.cooling()
        for name in call.others:
            tier = self.config.tiers.get(name)  # gone, where the file was edited meanwhile
            if tier is None or failed is None or name in cooling or name in self.unavailable:
                continue
            if kind != "context" or tier.ctx_size > failed.ctx_size:
                return name
        return None

    def overflowed(self, call: RoutedRequest, error: bytes) -> None:
        """Learn from its error that a tier could not hold what was estimated to fit."""
        tier, facts = self.config.tiers.get(call.tier), call.parsed.facts
        if tier is not None and not facts.images:
            room = tier.ctx_size - facts.output_tokens
            self.sessions.overflowed(tier.name, facts.context_tokens, room, counted_in(error))

    def ended(self, call: RoutedRequest, record: AccessRecord) -> None:
        """Keep what became of a request."""
        # What an image costs says nothing of text.
        if call.usage is not None and not call.parsed.facts.images:
            self.sessions.observe(call.tier, call.parsed.facts.context_tokens, call.usage.prompt)
        if call.asked == AUTO and call.outcome == "ok":
            self.sessions.served(call.session, call.tier)
        self.recent.append(record)
        self.metrics.ended(call)

    async def reload(self) -> dict[str, Any]:
        """Take up an edited models.ini; return the tiers that changed and what had to be cut.

        Raises:
            LlmstackError: the file is wrong, or asks for what needs a restart; nothing has changed then.
        """
        before = self.config.tiers
        config = load(self.project.models_ini).on(self.channel.runs)
        _refuse_what_needs_a_restart(self.config, config)
        found = survey(config, self.env)
        if len(found.unavailable) == len(config.tiers):
            reasons = "; ".join(f"{name}: {why}" for name, why in found.unavailable.items())
            raise LlmstackError(f"no tier could start: {reasons}")
        self.config, self.found = config, found
        cut = await self.swapper.reload(config, found)
        for backend in self.backends.values():
            cut += await backend.reload(config, found.unavailable)
        names = {**before, **config.tiers}
        changed = [
            name for name in names if _without_line(before.get(name)) != _without_line(config.tiers.get(name))
        ]
        self.sessions.forget(changed)
        return {"changed": changed, "unavailable": found.unavailable, "cut": cut}

    async def close(self) -> None:
        """Stop everything that serves."""
        await asyncio.gather(self.swapper.close(), *(each.close() for each in self.backends.values()))
        await self.upstream.close()


def _without_line(tier: Tier | None) -> Tier | None:
    return replace(tier, line=0) if tier is not None else None


def _refuse_what_needs_a_restart(running: StackConfig, edited: StackConfig) -> None:
    changed = [name for name in FIXED if getattr(running.settings, name) != getattr(edited.settings, name)]
    if changed:
        raise LlmstackError(
            f"[DEFAULT] {', '.join(changed)}: changed, and read at the start only",
            hint="`llmstack restart` takes it up",
        )
