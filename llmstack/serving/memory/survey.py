"""What this machine can serve: for each tier its file, its memory need, and why it cannot start."""

from __future__ import annotations

import asyncio
import platform
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind, Role
from llmstack.detached import start_detached
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.gguf_header import read_header
from llmstack.llama_cpp.weights import shards
from llmstack.serving.memory.budget import Budget, budget_of
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.footprint import Footprint, footprint
from llmstack.serving.memory.hardware import Hardware, detect
from llmstack.serving.memory.preflight import Obstacle, find_engine_or_obstacle, find_weights_or_obstacle

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.llama_cpp.gguf_header import GgufHeader
    from llmstack.serving.memory.eviction import MemoryPlan

FILE_S = 12.0  # for one tier, in seconds: more than `READ_S` of a header (llama_cpp/gguf_header.py)
ALL_FILES_S = 24.0  # for all tiers: less than `start` waits for the router (stack/lifecycle/health.py)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """Size and header of a tier's files that are not on this disk."""

    size_bytes: int
    header: GgufHeader | None = None


@dataclass(frozen=True, slots=True)
class TierSurvey:
    """What is known of one tier without starting it.

    Attributes:
        weights: the file to load, if it is on disk.
        size_bytes: size of its file or files, on disk or at the hub.
        header: the model's shape; None if it could not be read.
        need: the memory it needs, for a gguf tier.
        obstacle: why it cannot start; None if it can.
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
        engine: the program that runs models; None if there is none.
        tiers: by name.
        plan: which gguf tiers fit into memory together.
        budget: where the plan's budget comes from.
        unavailable: tiers that cannot start, with reason and remedy.
    """

    engine: EngineBinary | None
    tiers: Mapping[str, TierSurvey]
    plan: MemoryPlan
    budget: Budget | None = None
    unavailable: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """Format the obstacles once: every request needs them."""
        reasons = {name: str(each.obstacle) for name, each in self.tiers.items() if each.obstacle is not None}
        object.__setattr__(self, "unavailable", reasons)


def survey(
    config: StackConfig,
    env: Mapping[str, str],
    *,
    hardware: Hardware | None = None,
    remote_files: Mapping[str, RemoteFile] | None = None,
) -> Survey:
    """Survey this machine: the engine, the files and their headers, the memory.

    It may be called in any thread, and takes `ALL_FILES_S` for the files, even if their disk does not answer.

    Args:
        config: the tiers.
        env: environment variables that say where things are.
        hardware: the memory of this machine; None to detect it.
        remote_files: files that are not on disk, by tier.
    """
    engine, no_engine = find_engine_or_obstacle(env)
    remote_files = remote_files or {}
    deadline = time.monotonic() + ALL_FILES_S
    tiers = {
        name: _survey_tier(tier, env, no_engine, remote_files.get(name), deadline)
        for name, tier in config.tiers.items()
    }
    fast = config.by_role(Role.FAST)
    budget = memory_budget(config, engine, env, hardware)
    needs = {name: surveyed.need for name, surveyed in tiers.items() if surveyed.need is not None}
    preloaded = fast.name if fast else None
    plan = memory_plan(needs, budget=budget.bytes, preloaded=preloaded, on_gpu=budget.on_gpu)
    advice = {name: budget.raise_for(need) for name, need in plan.needs.items() if plan.exceeds(name)}
    return Survey(engine, tiers, replace(plan, advice=advice), budget)


async def survey_in_thread(config: StackConfig, env: Mapping[str, str]) -> Survey:
    """Survey this machine without stopping the event loop: files and vendors' tools may take seconds."""
    return await asyncio.wrap_future(start_detached(lambda: survey(config, env)))


def memory_budget(
    config: StackConfig, engine: EngineBinary | None, env: Mapping[str, str], hardware: Hardware | None
) -> Budget:
    """Return the memory budget; the hardware is detected unless models.ini sets `memory_gb`."""
    if hardware is None:
        hardware = Hardware(0) if config.settings.memory_gb else detect(env)
    return budget_of(config.settings, config.tiers.values(), hardware, gpu_engine=may_use_gpu(engine))


def may_use_gpu(engine: EngineBinary | None) -> bool:
    """Return whether the engine may use a GPU: the bundled engine does so only on a Mac."""
    return engine is None or engine.kind == "native" or platform.system() == "Darwin"


def _survey_tier(
    tier: Tier,
    env: Mapping[str, str],
    no_engine: Obstacle | None,
    remote_file: RemoteFile | None,
    deadline: float,
) -> TierSurvey:
    """Survey a tier; one whose file cannot be read before the deadline, or within `FILE_S`, cannot start."""
    if tier.backend is not BackendKind.GGUF:
        return TierSurvey(obstacle=find_weights_or_obstacle(tier, env, no_engine)[1])
    reason = "the files of the tiers take too long to read"
    if (wait_s := min(FILE_S, deadline - time.monotonic())) > 0:
        measured = start_detached(
            lambda: _measure(tier, *find_weights_or_obstacle(tier, env, no_engine), remote_file)
        )
        try:
            return measured.result(wait_s)
        except OSError as error:  # a timeout as well
            reason = error.strerror or f"it takes longer than {FILE_S:g} s"
    unread = Obstacle(
        f"cannot read {tier.model.label}: {reason}", "check whether its disk or network answers"
    )
    return TierSurvey(need=footprint(tier, file_bytes=0, header=None), obstacle=unread)


def _measure(
    tier: Tier, weights: Path | None, obstacle: Obstacle | None, remote_file: RemoteFile | None
) -> TierSurvey:
    if weights is None:
        size, header = (remote_file.size_bytes, remote_file.header) if remote_file else (0, None)
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
