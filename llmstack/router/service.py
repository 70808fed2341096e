"""The state of the running router: configuration, what the machine can serve, backends, recent requests."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmstack.config.model import BackendKind, Role
from llmstack.config.trusted import open_trusted
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO, StackState
from llmstack.process.worker import Worker
from llmstack.router.admin.metrics import Metrics
from llmstack.router.failover import Cooldowns
from llmstack.router.sessions import Sessions, prompt_tokens_in
from llmstack.serving.base import ModelState
from llmstack.serving.errors import TierUnavailableError
from llmstack.serving.litellm.program import copy_litellm_files
from llmstack.serving.memory.survey import survey_in_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project, UserDirs
    from llmstack.router.access_log import AccessRecord
    from llmstack.router.auth import RequestAuth
    from llmstack.router.failover import FailureKind
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.router_proof import RouterIdentity
    from llmstack.serving.base import Backend, Lease, Swapper
    from llmstack.serving.memory.eviction import MemoryPlan
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Upstream

_log = logging.getLogger(__name__)

RECENT = 50  # requests that the status shows
# Settings that are read only at the start.
START_SETTINGS = (
    *("host", "router_port", "swap_port", "litellm_port", "start_port"),
    *("swapper", "api_key_env", "allowed_hosts"),
)


@dataclass(slots=True)
class Service:
    """The router's state. Created inside the event loop.

    Attributes:
        config: as the running channel has it.
        survey: what this machine can serve.
        backends: what serves the tiers, by kind.
        user: the user's directories.
        identity: what the router proves to clients.
        swapper: the backend of the gguf tiers, which loads and unloads models.
        upstream: the HTTP client of the backends.
        env: of the router, to survey the machine again.
        in_flight: requests being served.
        worker: for work on large bodies.
    """

    project: Project
    user: UserDirs
    identity: RouterIdentity
    channel: Channel
    config: StackConfig
    auth: RequestAuth
    survey: Survey
    swapper: Swapper
    backends: Mapping[BackendKind, Backend]
    upstream: Upstream
    env: Mapping[str, str]
    recent: deque[AccessRecord] = field(default_factory=lambda: deque(maxlen=RECENT))
    started: float = field(default_factory=time.time)
    in_flight: int = 0
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    sessions: Sessions = field(default_factory=Sessions)
    metrics: Metrics = field(init=False)
    worker: Worker = field(init=False)
    _loading: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _reloading: asyncio.Lock = field(default_factory=asyncio.Lock)
    # Which tiers would evict others, with the plan and the loaded tiers that this was computed from.
    _evicting: tuple[MemoryPlan, frozenset[str], frozenset[str]] | None = None

    def __post_init__(self) -> None:
        """Start to count, and prepare the worker, which starts with the first large request."""
        self.worker = Worker(self.env)
        self.metrics = Metrics(self.swapper.states, lambda: self.in_flight)

    @property
    def unavailable(self) -> dict[str, str]:
        """Tiers that cannot start, with the reason."""
        return self.survey.unavailable

    @property
    def preloaded(self) -> str | None:
        """The tier that is loaded at start: role fast, if it has a model that can be loaded."""
        fast = self.config.by_role(Role.FAST)
        if fast is None or fast.name in self.unavailable or not self.backends[fast.backend].loads_models:
            return None
        return fast.name

    def backend_of(self, tier: str) -> Backend | None:
        """Return what serves a tier; None if models.ini no longer has it."""
        declared = self.config.tiers.get(tier)
        return self.backends[declared.backend] if declared is not None else None

    def state(self, tier: Tier) -> ModelState:
        """Return what is known of a tier now; nothing is probed."""
        if tier.name in self.unavailable:
            return ModelState("down", detail=self.unavailable[tier.name])
        return self.backends[tier.backend].state(tier.name)

    def stack_state(self) -> StackState:
        """Return the state of the tiers as far as a decision depends on it."""
        loaded = self.swapper.loaded_tiers()
        return StackState(
            unavailable=self.unavailable,
            cooling=self.cooldowns.cooling(),
            loaded=loaded,
            evicting=self._evicting_tiers(loaded),
            factors=self.sessions.factors,
        )

    def _evicting_tiers(self, loaded: frozenset[str]) -> frozenset[str]:
        """Return the tiers whose load would evict a loaded model."""
        plan, cached = self.survey.plan, self._evicting
        if cached is None or cached[0] is not plan or cached[1] != loaded:
            cached = self._evicting = (plan, loaded, plan.evicting(loaded))
        return cached[2]

    def acquire(self, request: RoutedRequest) -> Awaitable[Lease]:
        """Wait for the right to use the tier of a request.

        Raises:
            TierUnavailableError: it cannot be used now.
        """
        backend = self.backend_of(request.tier)
        if backend is None:
            raise TierUnavailableError(f"{request.tier} is not served any more", retry_after=1)
        if request.reads_only and backend is self.swapper:
            return self.swapper.acquire_loaded(request.tier)
        pinned = request.rewrites_body and request.dialect.accepts_slot
        return backend.acquire(request.tier, request.session_key, pinned=pinned)

    def is_up(self, tier: str) -> bool:
        """Return whether a tier could serve at once."""
        declared = self.config.tiers.get(tier)  # None if models.ini was edited in the meantime
        return declared is not None and self.state(declared).state in {"resident", "remote"}

    def has_free_slot(self, request: RoutedRequest) -> bool:
        """Return whether the tier of a request would serve it without waiting."""
        backend = self.backend_of(request.tier)
        return backend is not None and backend.has_free_slot(request.tier)

    def stand_in_while_loading(self, request: RoutedRequest) -> None:
        """With `while_loading = resident`, let a tier that is up serve while the chosen one loads."""
        routing = self.config.routing
        if routing.while_loading == "wait" or request.requested_model != AUTO or self.is_up(request.tier):
            return
        backend = self.backend_of(request.tier)
        if backend is None or not backend.loads_models:
            return  # it starts by itself
        cooling = self.cooldowns.cooling()
        up = [tier for tier in request.alternatives if tier not in cooling and self.is_up(tier)]
        if up:
            self.load_in_background(request.tier)
            request.use_stand_in(up[0])

    def load_in_background(self, tier: str) -> None:
        """Load a tier's model without waiting for it."""
        if tier not in self._loading:
            self._loading[tier] = task = asyncio.create_task(self._load(tier))
            task.add_done_callback(lambda _: self._loading.pop(tier))

    async def _load(self, tier: str) -> None:
        try:
            await self.swapper.load(tier)
        except Exception as error:  # noqa: BLE001 - nobody waits for it; the router serves the other tiers
            _log.error("loading %s in the background failed: %s", tier, error)

    def alternative(self, request: RoutedRequest, failure: FailureKind) -> str | None:
        """Return the best tier that may serve in place of the one that failed, or None."""
        failed, cooling = self.config.tiers.get(request.tier), self.cooldowns.cooling()
        for name in request.alternatives:
            tier = self.config.tiers.get(name)  # None if models.ini was edited in the meantime
            if tier is None or failed is None or name in cooling or name in self.unavailable:
                continue
            if failure != "context" or tier.ctx_size > failed.ctx_size:
                return name
        return None

    def note_overflow(self, request: RoutedRequest, error: bytes) -> None:
        """Learn from an error that a tier could not hold a request that was estimated to fit."""
        tier, facts = self.config.tiers.get(request.tier), request.parsed.facts
        if tier is not None and not facts.images:
            room = tier.ctx_size - facts.output_tokens
            self.sessions.note_overflow(tier.name, facts.context_tokens, room, prompt_tokens_in(error))

    def note_end(self, request: RoutedRequest, record: AccessRecord) -> None:
        """Keep what became of a request."""
        # The cost of an image says nothing about text.
        if request.usage is not None and not request.parsed.facts.images:
            estimated = request.parsed.facts.context_tokens
            self.sessions.observe(request.tier, estimated, request.usage.prompt)
        if request.requested_model == AUTO and request.outcome == "ok":
            self.sessions.note_served(request.session_key, request.tier)
        self.recent.append(record)
        self.metrics.count_request(request)

    async def reload(self) -> dict[str, Any]:
        """Apply an edited models.ini; return the tiers that changed and which requests had to be cut.

        One reload after the other: each reads the file when its turn comes.

        Raises:
            LlmstackError: the file is wrong or not trusted, or changes what needs a restart; nothing has
                changed then.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> dict[str, Any]:
        before = self.config.tiers
        trusted = await asyncio.to_thread(open_trusted, self.project, self.user)
        if trusted.declared is None:
            raise LlmstackError(f"{self.project.models_ini}: no such file", hint="write it again")
        config = trusted.declared.for_channel(self.channel.local_channel)
        _refuse_changed_start_settings(self.config, config)
        survey = await survey_in_thread(config, self.env)
        if len(survey.unavailable) == len(config.tiers):
            reasons = "; ".join(f"{name}: {why}" for name, why in survey.unavailable.items())
            raise LlmstackError(f"no tier could start: {reasons}")
        await asyncio.to_thread(copy_litellm_files, trusted)
        self.config, self.survey = config, survey
        cut: list[str] = []
        for backend in self.backends.values():
            cut += await backend.reload(config, survey)
        names = {**before, **config.tiers}
        changed = [
            name for name in names if _without_line(before.get(name)) != _without_line(config.tiers.get(name))
        ]
        self.sessions.forget(changed)
        return {"changed": changed, "unavailable": survey.unavailable, "cut": cut}

    async def close(self) -> None:
        """Stop everything that serves."""
        await asyncio.gather(*(backend.close() for backend in self.backends.values()))
        await self.worker.close()
        await self.upstream.close()


def _without_line(tier: Tier | None) -> Tier | None:
    return replace(tier, line=0) if tier is not None else None


def _refuse_changed_start_settings(running: StackConfig, edited: StackConfig) -> None:
    changed = [
        name for name in START_SETTINGS if getattr(running.settings, name) != getattr(edited.settings, name)
    ]
    if changed:
        raise LlmstackError(
            f"[DEFAULT] {', '.join(changed)}: changed, but read only at the start",
            hint="run `llmstack restart` to apply the change",
        )
