"""What the running router knows: configuration, availability, swapper, what it did lately."""

from __future__ import annotations

import secrets
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from llmstack.config.model import Backend, Role
from llmstack.engine.command import server_env, server_flags
from llmstack.errors import LlmstackError
from llmstack.policy.ladder import AUTO, auto_context
from llmstack.process.identity import running
from llmstack.process.leftovers import instance_of
from llmstack.swapper.base import ModelState
from llmstack.swapper.choice import llama_swap_binary
from llmstack.swapper.llama_swap import LlamaSwap
from llmstack.swapper.model_server import LlamaServer, Ports
from llmstack.swapper.pool import Pool
from llmstack.swapper.survey import survey
from llmstack.swapper.swap_process import SwapProcess

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project
    from llmstack.router.guard import Guard
    from llmstack.router.upstream import Upstream
    from llmstack.swapper.base import Swapper
    from llmstack.swapper.survey import Survey

RECENT = 50


@dataclass(frozen=True, slots=True)
class Record:
    """One request that was served, without a word of what it said.

    Attributes:
        at: seconds since the epoch.
        asked: the model that was asked for.
        first_byte_s: seconds to the first byte of content; None where there was none.
        total_s: seconds until it ended.
        outcome: `ok`, `client_gone`, or the code of the failure.
    """

    at: float
    path: str
    asked: str
    tier: str
    reason: str
    tokens: int
    status: int
    first_byte_s: float | None
    total_s: float
    outcome: str


@dataclass(slots=True)
class Service:
    """The router's state. Made inside the event loop.

    Attributes:
        config: as the running channel has it.
        found: what this machine can serve.
        in_flight: requests being served.
    """

    project: Project
    channel: Channel
    config: StackConfig
    guard: Guard
    found: Survey
    swapper: Swapper
    upstream: Upstream
    recent: deque[Record] = field(default_factory=lambda: deque(maxlen=RECENT))
    started: float = field(default_factory=time.time)
    in_flight: int = 0

    @property
    def unavailable(self) -> dict[str, str]:
        """Tiers that cannot start, with the reason."""
        return self.found.unavailable

    @property
    def preloaded(self) -> str | None:
        """The tier that is loaded at start: role fast, where it can start."""
        fast = self.config.by_role(Role.FAST)
        usable = fast is not None and fast.backend is Backend.GGUF and fast.name not in self.unavailable
        return fast.name if fast is not None and usable else None

    def state(self, tier: Tier) -> ModelState:
        """Return what is known of a tier now; nothing is probed."""
        if tier.name in self.unavailable:
            return ModelState("down", detail=self.unavailable[tier.name])
        return self.swapper.states().get(tier.name) or ModelState("remote")

    def models(self) -> list[dict[str, Any]]:
        """Return the entries of `/v1/models`: `auto`, then every tier, each followed by its aliases."""
        entries = [
            {
                **_entry(AUTO, self.started),
                "description": "picks a tier for each request",
                "context_window": auto_context(self.config, self.unavailable),
                "backend": "router",
                "channel": str(self.channel),
                "state": "resident",
            }
        ]
        for tier in self.config.tiers.values():
            about = {
                "description": tier.description,
                "context_window": tier.ctx_size,
                "backend": tier.backend,
                "role": tier.role,
                "channel": tier.channel,
                "model": tier.model.label,
            }
            if tier.backend is Backend.GGUF:
                about["state"] = self.state(tier).state
            entries.append({**_entry(tier.name, self.started), **about, "aliases": tier.aliases})
            entries += [
                {**_entry(alias, self.started), **about, "alias_of": tier.name} for alias in tier.aliases
            ]
        return entries

    def status(self) -> dict[str, Any]:
        """Return the document of `/llmstack/status`."""
        return {
            "work_dir": str(self.project.work_dir),
            "channel": str(self.channel),
            "started": self.started,
            "in_flight": self.in_flight,
            "swapper": {
                "kind": self.swapper.kind,
                "engine": self.found.engine.kind if self.found.engine else None,
                "budget_gb": round(self.found.plan.budget / 1024**3, 2),
                "sets": self.found.plan.sets(),
                **self._llama_swap(),
            },
            "preload": self.preloaded,
            "tiers": [self._tier_status(tier) for tier in self.config.tiers.values()],
            "recent": [asdict(record) for record in self.recent],
        }

    def _llama_swap(self) -> dict[str, Any]:
        if self.swapper.kind != "llama-swap":
            return {}
        daemon = running(self.project.pid_file("llama-swap"))
        return {"port": self.config.settings.swap_port, "pid": daemon.identity.pid if daemon else None}

    def _tier_status(self, tier: Tier) -> dict[str, Any]:
        about = {
            "name": tier.name,
            "role": tier.role,
            "backend": tier.backend,
            "model": tier.model.label,
            "channel": tier.channel,
            "ctx_size": tier.ctx_size,
        }
        need = self.found.tiers[tier.name].need
        known = {"need_bytes": need.total if need else None, "can_start": tier.name not in self.unavailable}
        return about | known | asdict(self.state(tier))


def _entry(name: str, created: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "llmstack"}


def build_pool(config: StackConfig, found: Survey, project: Project, env: Mapping[str, str]) -> Pool:
    """Return the built-in pool for every gguf tier that can start."""
    settings = config.settings
    reserved = frozenset({settings.router_port, settings.swap_port, settings.litellm_port})
    ports = Ports(settings.start_port, reserved)
    child_env = server_env(env, api_key=secrets.token_urlsafe(32))

    def server(name: str) -> LlamaServer:
        tier, weights = config.tiers[name], found.tiers[name].weights
        if weights is None or found.engine is None:
            raise LlmstackError(
                f"{name} cannot start: {found.unavailable.get(name, 'its file is not on disk')}"
            )
        return LlamaServer(
            name,
            lambda port: server_flags(tier, weights, host="127.0.0.1", port=port),
            found.engine,
            env=child_env,
            ports=ports,
            pid_file=project.pid_file(f"model-{name}"),
            log=project.log(name),
        )

    ttls, slots = _limits(config, found)
    return Pool(server, found.plan, ttls=ttls, slots=slots)


def _limits(config: StackConfig, found: Survey) -> tuple[dict[str, float], dict[str, int]]:
    """Return the idle time and the slots of each gguf tier."""
    tiers = [config.tiers[name] for name in found.plan.needs]
    return {tier.name: tier.ttl for tier in tiers}, {tier.name: tier.engine.parallel for tier in tiers}


def build_swapper(
    config: StackConfig, found: Survey, project: Project, env: Mapping[str, str], bin_dir: Path
) -> Swapper:
    """Return llama-swap where its binary is installed or asked for, else the built-in pool.

    Raises:
        LlmstackError: it is asked for and not installed.
    """
    binary = llama_swap_binary(config.settings.swapper, bin_dir)
    if binary is None:
        return build_pool(config, found, project, env)
    swap = SwapProcess(
        binary,
        project.llama_swap_yaml,
        port=config.settings.swap_port,
        env=server_env(env, api_key=None),
        instance=instance_of(project.state),
        pid_file=project.pid_file("llama-swap"),
        log=project.log("llama-swap"),
    )
    fast = config.by_role(Role.FAST)
    preloaded = fast.name if fast and fast.name in found.plan.needs else None
    ttls, slots = _limits(config, found)
    usable = preloaded if preloaded not in found.unavailable else None
    return LlamaSwap(swap, found.plan, ttls=ttls, slots=slots, preloaded=usable)


def build_service(
    *,
    project: Project,
    channel: Channel,
    config: StackConfig,
    guard: Guard,
    upstream: Upstream,
    env: Mapping[str, str],
    bin_dir: Path,
) -> Service:
    """Look at the machine and put the router's state together. Inside the event loop."""
    found = survey(config, env)
    return Service(
        project=project,
        channel=channel,
        config=config,
        guard=guard,
        found=found,
        swapper=build_swapper(config, found, project, env, bin_dir),
        upstream=upstream,
    )
