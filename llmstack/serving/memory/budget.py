"""How much memory the models may have, where it comes from, and how to raise it. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from llmstack.config.model import BackendKind
from llmstack.serving.memory.footprint import GB, MB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmstack.config.model import Settings, Tier
    from llmstack.serving.memory.hardware import Hardware

Source = Literal["memory_gb", "apple", "gpu", "ram"]
RAM_SHARE = 0.75  # the rest is for everything else that runs here
GPU_SHARE = 0.9  # the rest is for the screen, and for what a driver takes for each process (an allowance)
APPLE_KEPT = 8 * GB  # never offer the GPU what macOS needs: the reference machine runs well with 56 of 64


@dataclass(frozen=True, slots=True)
class Budget:
    """Memory for all resident models together.

    Attributes:
        bytes: how much.
        source: what it is a part of.
        origin: the same for a person.
        wired_at_most: to how much an Apple machine's limit can be raised; 0 elsewhere.
    """

    bytes: int
    source: Source
    origin: str
    wired_at_most: int = 0

    @property
    def apart(self) -> bool:
        """It is a GPU's own memory, beside the RAM."""
        return self.source == "gpu"

    def raise_for(self, need: int) -> str:
        """Return what lets a model of this size stay inside the budget."""
        less = "lower its `ctx_size` or `parallel`, or take a smaller quantisation"
        if self.source == "memory_gb":
            return f"{less}, or raise `memory_gb`"
        if self.source == "apple" and need <= self.wired_at_most:
            limit = min(math.ceil(need / GB) * GB, self.wired_at_most) // MB
            return f"sudo sysctl iogpu.wired_limit_mb={limit} (until the next boot), or {less}"
        if self.source == "gpu":
            return f"{less}; llama.cpp keeps what is too much in RAM, and is slower by it"
        return f"{less}, or set `memory_gb` if nothing else needs the memory"


def budget_of(settings: Settings, tiers: Iterable[Tier], hardware: Hardware, *, gpu_engine: bool) -> Budget:
    """Return the budget.

    Args:
        settings: `memory_gb` decides where it is set.
        tiers: a card's memory counts where any gguf tier goes there.
        hardware: what there is.
        gpu_engine: the engine can use a graphics card.
    """
    wired = max(hardware.ram - APPLE_KEPT, 0) if hardware.kind == "apple" else 0
    if settings.memory_gb:
        return Budget(round(settings.memory_gb * GB), "memory_gb", "`memory_gb`")
    if hardware.wired_limit is not None:
        origin = f"what macOS lets the GPU have of {hardware.ram / GB:.0f} GB"
        return Budget(hardware.wired_limit, "apple", origin, wired)
    on_card = any(tier.backend is BackendKind.GGUF and tier.engine.n_gpu_layers != 0 for tier in tiers)
    if hardware.gpus and gpu_engine and on_card:
        names = " + ".join(gpu.name for gpu in hardware.gpus)
        origin = f"{GPU_SHARE:.0%} of {hardware.graphics_memory / GB:.0f} GB on {names}"
        return Budget(round(hardware.graphics_memory * GPU_SHARE), "gpu", origin)
    place = "this container's memory" if hardware.container else "RAM"
    origin = f"{RAM_SHARE:.0%} of {hardware.ram / GB:.0f} GB of {place}"
    if hardware.gpus and not gpu_engine:
        origin += "; the bundled engine does not use the graphics card"
    return Budget(round(hardware.ram * RAM_SHARE), "ram", origin)
