"""Captured output of vendors' tools and kernels, and the budget that follows from it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, Settings, Tier
from llmstack.serving.memory.budget import Budget, budget_of
from llmstack.serving.memory.hardware import (
    Gpu,
    Hardware,
    amd_gpus,
    cgroup_limit,
    detect,
    nvidia_gpus,
    wired_limit,
)
from llmstack.units import GB, MB

if TYPE_CHECKING:
    from pathlib import Path

RTX_4090 = Gpu("NVIDIA GeForce RTX 4090", 24564 * MB)
A40 = Gpu("NVIDIA A40", 46068 * MB)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NVIDIA GeForce RTX 4090, 24564\n", (RTX_4090,)),
        ("NVIDIA A40, 46068\nNVIDIA A40, 46068\n", (A40, A40)),
        ("Orin (nvgpu), [N/A]\n", ()),
        ("NVIDIA A40, [Insufficient Permissions]\nNVIDIA A40, 46068\n", (A40,)),
        ("No devices were found\n", ()),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", ()),
        ("", ()),
    ],
)
def test_gpus_are_read_from_nvidia_smi(text: str, expected: tuple[Gpu, ...]) -> None:
    assert nvidia_gpus(text) == expected


def test_amd_gpus_are_read_from_sysfs(tmp_path: Path) -> None:
    for card, memory in {"card0": 512 * MB, "card1": 17_163_091_968}.items():
        device = tmp_path / card / "device"
        device.mkdir(parents=True)
        (device / "mem_info_vram_total").write_text(f"{memory}\n")
    assert amd_gpus(tmp_path) == (Gpu("AMD card1", 17_163_091_968),)
    assert amd_gpus(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("text", "ram", "expected"),
    [
        ("57344\n", 64, 56 * GB),
        ("0\n", 64, 48 * GB),
        ("", 16, round(16 * GB * 2 / 3)),
        ("0\n", 36, 27 * GB),
        ("sysctl: unknown oid 'iogpu.wired_limit_mb'\n", 64, 48 * GB),
        ("99999999\n", 64, 64 * GB),
    ],
)
def test_apples_gpu_limit_is_read_or_estimated(text: str, ram: int, expected: int) -> None:
    assert wired_limit(text, ram * GB) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # docker run -m 4g, cgroup v2: the container sees its own group as the root
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{4 * GB}\n"}, 4 * GB),
        # a systemd slice with a limit around a service without one
        (
            {
                "proc/self/cgroup": "0::/user.slice/app.service\n",
                "sys/fs/cgroup/user.slice/app.service/memory.max": "max\n",
                "sys/fs/cgroup/user.slice/memory.max": f"{8 * GB}\n",
            },
            8 * GB,
        ),
        # cgroup v1 in a container: the path is the host's, the mount is the container's own
        (
            {
                "proc/self/cgroup": "5:memory:/docker/0123\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{2 * GB}\n",
            },
            2 * GB,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,memory:/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            },
            None,
        ),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"}, None),
        ({}, None),
    ],
)
def test_a_containers_memory_limit_is_read_from_cgroups(
    tmp_path: Path, files: dict[str, str], expected: int | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_limit(tmp_path) == expected


@pytest.mark.skipif(os.name == "nt", reason="a script stands in for the tool")
def test_the_output_of_a_failing_tool_is_ignored(tmp_path: Path) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564'\n")
    tool.chmod(0o755)
    hardware = detect({"PATH": str(tmp_path)})
    assert hardware.ram > 0
    assert RTX_4090 in hardware.gpus or hardware.kind == "apple"
    tool.write_text("#!/bin/sh\necho 'NVIDIA GeForce RTX 4090, 24564'; exit 9\n")
    assert RTX_4090 not in detect({"PATH": str(tmp_path)}).gpus
    assert RTX_4090 not in detect({"PATH": ""}).gpus


def tier(**engine: object) -> Tier:
    settings = EngineSettings(**engine)  # type: ignore[arg-type]
    return Tier("a", BackendKind.GGUF, GgufModel(repo="org/a", file="a.gguf"), 1024, engine=settings)


def budget(hardware: Hardware, *, memory_gb: float | None = None, gpu_engine: bool = True) -> Budget:
    return budget_of(Settings(memory_gb=memory_gb), [tier()], hardware, gpu_engine=gpu_engine)


def test_the_budget_names_its_origin() -> None:
    card = Hardware(64 * GB, gpus=(RTX_4090,))
    assert budget(card, memory_gb=5) == Budget(5 * GB, "memory_gb", "`memory_gb`")
    assert budget(card) == Budget(round(24564 * MB * 0.9), "gpu", "90% of 24 GB on NVIDIA GeForce RTX 4090")
    assert budget(card).on_gpu
    assert budget(card, gpu_engine=False) == Budget(
        48 * GB, "ram", "75% of 64 GB of RAM; the bundled engine does not use the graphics card"
    )
    on_cpu = budget_of(Settings(), [tier(n_gpu_layers=0)], card, gpu_engine=True)
    assert on_cpu == Budget(48 * GB, "ram", "75% of 64 GB of RAM")
    assert budget(Hardware(4 * GB, container=True)).origin == "75% of 4 GB of this container's memory"
    apple = budget(Hardware(64 * GB, wired_limit=48 * GB))
    assert (apple.bytes, apple.origin) == (48 * GB, "what macOS lets the GPU have of 64 GB")


def test_the_hint_says_how_to_raise_the_budget() -> None:
    apple = budget(Hardware(64 * GB, wired_limit=48 * GB))
    assert apple.raise_for(round(53.2 * GB)).startswith(
        "sudo sysctl iogpu.wired_limit_mb=55296 (until the next boot), or lower its `ctx_size`"
    )
    assert "sysctl" not in apple.raise_for(60 * GB)  # macOS needs some of it
    assert "raise `memory_gb`" in budget(Hardware(0), memory_gb=5).raise_for(6 * GB)
    assert "keeps the rest in RAM" in budget(Hardware(64 * GB, gpus=(RTX_4090,))).raise_for(30 * GB)
    assert "set `memory_gb`" in budget(Hardware(64 * GB)).raise_for(60 * GB)
