"""How much memory this machine has for models: RAM, a container's limit, a GPU's own memory, Apple's limit.

Parsing is pure; `detect` is the edge that runs the vendors' tools.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import psutil

from llmstack.units import GB, MB

if TYPE_CHECKING:
    from collections.abc import Mapping

TOOL_TIMEOUT_S = 4.0  # nvidia-smi takes about a second if the driver has to wake up
UNLIMITED = 1 << 60  # cgroup v1 says "no limit" as a number near 2^63

# macOS, `iogpu.wired_limit_mb` = 0: Metal's recommended working set. Reports say about 21 GB of 32 and 48 of
# 64; the step is at 36 GB.
APPLE_LARGE = 36 * GB
APPLE_SHARE, APPLE_SHARE_SMALL = 3 / 4, 2 / 3

NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")
SYSCTL = "/usr/sbin/sysctl"


@dataclass(frozen=True, slots=True)
class Gpu:
    """A graphics card with memory of its own, in bytes."""

    name: str
    memory: int


@dataclass(frozen=True, slots=True)
class Hardware:
    """The memory of this machine, in bytes.

    Attributes:
        ram: of the machine, or of the container if that is less.
        container: `ram` is a container's limit.
        gpus: cards with memory of their own.
        wired_limit: what macOS lets the GPU of an Apple chip use; None on other machines.
    """

    ram: int
    container: bool = False
    gpus: tuple[Gpu, ...] = ()
    wired_limit: int | None = None

    @property
    def kind(self) -> Literal["apple", "gpu", "cpu"]:
        """What runs models on this machine."""
        return "apple" if self.wired_limit is not None else "gpu" if self.gpus else "cpu"

    @property
    def graphics_memory(self) -> int:
        """Memory of all cards together: llama.cpp spreads a model's layers over them."""
        return sum(gpu.memory for gpu in self.gpus)


def detect(env: Mapping[str, str]) -> Hardware:
    """Return the memory of this machine; a tool that is missing or does not answer is ignored."""
    total = psutil.virtual_memory().total
    limit = cgroup_limit(Path("/"))
    ram = min(total, limit) if limit else total
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return Hardware(ram, wired_limit=wired_limit(_output((SYSCTL, "-n", "iogpu.wired_limit_mb")), ram))
    tool = shutil.which(NVIDIA[0], path=env.get("PATH", ""))
    nvidia = nvidia_gpus(_output((tool, *NVIDIA[1:]))) if tool and Path(tool).is_absolute() else ()
    return Hardware(ram, container=ram < total, gpus=nvidia or amd_gpus(Path("/sys/class/drm")))


def _output(argv: tuple[str, ...]) -> str:
    try:
        process = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=TOOL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout if process.returncode == 0 else ""


def nvidia_gpus(text: str) -> tuple[Gpu, ...]:
    """Read `nvidia-smi --query-gpu=name,memory.total`: a name and MiB on each line."""
    gpus = []
    for line in text.splitlines():
        name, _, memory = line.rpartition(",")
        if name.strip() and memory.strip().isdecimal():  # a card may say [N/A], or [Insufficient Permissions]
            gpus.append(Gpu(name.strip(), int(memory) * MB))
    return tuple(gpus)


SMALLEST_CARD = 4 * GB  # an AMD processor's own graphics mostly reserves less, too little for models


def amd_gpus(drm: Path) -> tuple[Gpu, ...]:
    """Read the memory of each card from the amdgpu driver, in bytes."""
    gpus = []
    for file in sorted(drm.glob("card*/device/mem_info_vram_total")):
        text = _text(file)
        if text.isdecimal() and int(text) >= SMALLEST_CARD:
            gpus.append(Gpu(f"AMD {file.parent.parent.name}", int(text)))
    return tuple(gpus)


def wired_limit(text: str, ram: int) -> int:
    """Read `iogpu.wired_limit_mb`; 0, or nothing on an older macOS, means the default share."""
    megabytes = int(text) if text.strip().isdecimal() else 0
    if megabytes:
        return min(megabytes * MB, ram)
    return round(ram * (APPLE_SHARE if ram >= APPLE_LARGE else APPLE_SHARE_SMALL))


def cgroup_limit(root: Path) -> int | None:
    """Return the memory limit of this container (cgroup v2, then v1); None if there is none."""
    own = _text(root / "proc/self/cgroup").splitlines()
    base = root / "sys/fs/cgroup"
    limits = []
    for line in own:
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            limits += _limits(base, path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _limits(base / "memory", path, "memory.limit_in_bytes")
    return min(limits, default=None)


def _limits(base: Path, path: str, name: str) -> list[int]:
    """Return the limits of a group and its parents; inside a container, its own group is the root."""
    group = base / path.strip("/")
    groups = [group, *(parent for parent in group.parents if parent.is_relative_to(base))]
    texts = [_text(each / name) for each in groups]
    return [int(text) for text in texts if text.isdecimal() and 0 < int(text) < UNLIMITED]


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
