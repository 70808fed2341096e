"""How much memory the models may have, where it comes from, and how to raise it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmstack.config.model import BackendKind
from llmstack.units import GB, MB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmstack.config.model import Settings, Tier
    from llmstack.serving.memory.hardware import Hardware

Source = Literal["memory_gb", "apple", "gpu", "ram"]
RAM_SHARE = 0.75  # the rest is for all other programs
GPU_SHARE = 0.9  # the rest is for the screen and for the driver's needs in each process (an allowance)
APPLE_RESERVED = 8 * GB  # for macOS: the reference machine runs well with 56 of 64 GB for the GPU


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory for all loaded models together.

    Attributes:
        bytes: its size.
        source: where it comes from.
        origin: the same in words.
        max_wired_limit: to how much the limit of an Apple machine can be raised; 0 on other machines.
    """

    bytes: int
    source: Source
    origin: str
    max_wired_limit: int = 0

    @property
    def on_gpu(self) -> bool:
        """Whether it is a GPU's own memory, separate from the RAM."""
        return self.source == "gpu"

    def raise_for(self, need: int) -> str:
        """Return what to do so that a model of this size fits into the budget."""
        shrink = "lower its `ctx_size` or `parallel`, or take a smaller quantisation"
        if self.source == "memory_gb":
            return f"{shrink}, or raise `memory_gb`"
        if self.source == "apple" and need <= self.max_wired_limit:
            limit = min(math.ceil(need / GB) * GB, self.max_wired_limit) // MB
            return f"sudo sysctl iogpu.wired_limit_mb={limit} (until the next boot), or {shrink}"
        if self.source == "gpu":
            return f"{shrink}; llama.cpp keeps the rest in RAM, which is slower"
        return f"{shrink}, or set `memory_gb` if nothing else needs the memory"


def budget_of(settings: Settings, tiers: Iterable[Tier], hardware: Hardware, *, gpu_engine: bool) -> Budget:
    """Return the budget.

    Args:
        settings: `memory_gb` decides if it is set.
        tiers: the GPU's memory counts if any gguf tier uses it.
        hardware: the memory of this machine.
        gpu_engine: the engine can use a graphics card.
    """
    wired = max(hardware.ram - APPLE_RESERVED, 0) if hardware.kind == "apple" else 0
    if settings.memory_gb:
        return Budget(round(settings.memory_gb * GB), "memory_gb", "`memory_gb`")
    if hardware.wired_limit is not None:
        origin = f"what macOS lets the GPU have of {hardware.ram / GB:.0f} GB"
        return Budget(hardware.wired_limit, "apple", origin, wired)
    uses_gpu = any(tier.backend is BackendKind.GGUF and tier.engine.n_gpu_layers != 0 for tier in tiers)
    if hardware.gpus and gpu_engine and uses_gpu:
        names = " + ".join(gpu.name for gpu in hardware.gpus)
        origin = f"{GPU_SHARE:.0%} of {hardware.graphics_memory / GB:.0f} GB on {names}"
        return Budget(round(hardware.graphics_memory * GPU_SHARE), "gpu", origin)
    where = "this container's memory" if hardware.container else "RAM"
    origin = f"{RAM_SHARE:.0%} of {hardware.ram / GB:.0f} GB of {where}"
    if hardware.gpus and not gpu_engine:
        origin += "; the bundled engine does not use the graphics card"
    return Budget(round(hardware.ram * RAM_SHARE), "ram", origin)
