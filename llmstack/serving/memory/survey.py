"""What this machine can serve: for each tier its file, its memory, and why it cannot start if it cannot."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind, Role
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.gguf_header import read_header
from llmstack.llama_cpp.weights import shards
from llmstack.serving.memory.budget import Budget, budget_of
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.footprint import Footprint, footprint
from llmstack.serving.memory.hardware import Hardware, detect
from llmstack.serving.memory.preflight import Obstacle, engine_here, find

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.llama_cpp.gguf_header import GgufHeader
    from llmstack.serving.memory.eviction import MemoryPlan


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """What is known of a tier's file or files that are not on this disk: their size, and their header."""

    size_bytes: int
    header: GgufHeader | None = None


@dataclass(frozen=True, slots=True)
class TierSurvey:
    """What is known of one tier without starting it.

    Attributes:
        weights: the file to load, for a gguf tier that is on disk.
        size_bytes: of its file or files, also where they are elsewhere.
        header: the model's shape, where it could be read.
        need: memory, for a gguf tier.
        obstacle: None where it can start.
    """

    weights: Path | None = None
    size_bytes: int = 0
    need: Footprint | None = None
    obstacle: Obstacle | None = None
    header: GgufHeader | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """What this machine can serve.

    Attributes:
        engine: what runs models; None where nothing was found.
        tiers: by name.
        plan: which gguf tiers may live together.
        budget: where the plan's budget comes from.
        unavailable: tiers that cannot start, with reason and remedy.
    """

    engine: EngineBinary | None
    tiers: Mapping[str, TierSurvey]
    plan: MemoryPlan
    budget: Budget | None = None
    unavailable: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Put the obstacles into words: they are asked for with every request."""
        words = {name: str(each.obstacle) for name, each in self.tiers.items() if each.obstacle is not None}
        object.__setattr__(self, "unavailable", words)


def survey(
    config: StackConfig,
    env: Mapping[str, str],
    *,
    hardware: Hardware | None = None,
    elsewhere: Mapping[str, RemoteFile] | None = None,
) -> Survey:
    """Look at this machine: the engine, the files and their headers, the memory.

    Args:
        config: the tiers.
        env: where to look.
        hardware: what there is, where it was detected already.
        elsewhere: files of tiers that are not on disk, by tier.
    """
    engine, no_engine = engine_here(env)
    far = elsewhere or {}
    tiers = {
        name: _measure(tier, *find(tier, env, no_engine), far.get(name))
        for name, tier in config.tiers.items()
    }
    fast = config.by_role(Role.FAST)
    budget = memory_budget(config, engine, env, hardware)
    needs = {name: found.need for name, found in tiers.items() if found.need is not None}
    preloaded = fast.name if fast else None
    plan = memory_plan(needs, budget=budget.bytes, preloaded=preloaded, apart=budget.apart)
    advice = {name: budget.raise_for(need) for name, need in plan.needs.items() if plan.exceeds(name)}
    return Survey(engine, tiers, replace(plan, advice=advice), budget)


def memory_budget(
    config: StackConfig, engine: EngineBinary | None, env: Mapping[str, str], hardware: Hardware | None
) -> Budget:
    """Return the memory budget; the machine is looked at where models.ini does not say it."""
    if hardware is None:
        hardware = Hardware(0) if config.settings.memory_gb else detect(env)
    return budget_of(config.settings, config.tiers.values(), hardware, gpu_engine=uses_graphics_card(engine))


def uses_graphics_card(engine: EngineBinary | None) -> bool:
    """Return whether the engine may use one: the registry's wheels do on a Mac only."""
    return engine is None or engine.kind == "native" or platform.system() == "Darwin"


def _measure(
    tier: Tier, weights: Path | None, obstacle: Obstacle | None, elsewhere: RemoteFile | None
) -> TierSurvey:
    if tier.backend is not BackendKind.GGUF:
        return TierSurvey(obstacle=obstacle)
    if weights is None:
        size, header = (elsewhere.size_bytes, elsewhere.header) if elsewhere else (0, None)
        need = footprint(tier, file_bytes=size, header=header)
        return TierSurvey(size_bytes=size, need=need, obstacle=obstacle, header=header)
    size = sum(shard.stat().st_size for shard in shards(weights))
    try:
        header = read_header(weights)
    except LlmstackError as error:
        damaged = Obstacle(error.message, error.hint or "")
        return TierSurvey(weights, size, footprint(tier, file_bytes=size, header=None), damaged)
    need = footprint(tier, file_bytes=size, header=header)
    return TierSurvey(weights, size, need, obstacle, header)
