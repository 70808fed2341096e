"""The bundled profiles: each fits its memory budget, and each machine gets the largest that fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.project import CliProject

from llmstack.config import (
    PROFILE_MEMORY_GB,
    GgufModel,
    Settings,
    StackConfig,
    enable_hosted,
    parse,
    profile_text,
)
from llmstack.llama_cpp.model_shape import GgufHeader
from llmstack.serving.memory.budget import budget_of
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.footprint import Footprint, footprint
from llmstack.serving.memory.hardware import Gpu, Hardware
from llmstack.stack.install.profile_choice import ProfileChoice, choose_for_budget
from llmstack.units import GB, MB

if TYPE_CHECKING:
    from llmstack.config import Tier


class Shape(NamedTuple):
    """The shape of a model, from its config.json."""

    layers: int
    kv_heads: int
    width: int
    hidden: int  # three feed-forward widths; for a mixture those of the active experts, and their outputs
    heads: int
    head: int = 128
    every: int = 1  # attention in every Nth layer
    state: int = 0  # number of values in all recurrent layers


SHAPES = {
    "Qwen2.5-Coder-1.5B": Shape(28, 2, 1536, 3 * 8960, 12),
    "Qwen2.5-Coder-3B": Shape(36, 2, 2048, 3 * 11008, 16),
    "Qwen2.5-Coder-7B": Shape(28, 4, 3584, 3 * 18944, 28),
    "Qwen3-4B": Shape(36, 8, 2560, 3 * 9728, 32),
    "Qwen3-8B": Shape(36, 8, 4096, 3 * 12288, 32),
    "30B-A3B": Shape(48, 4, 2048, 8 * (3 * 768 + 2048), 32),
    "Mistral-Small-3.2-24B": Shape(40, 8, 5120, 3 * 32768, 32),
    # 36 of 48 layers: a convolution of 3 x (4096 + 2 x 16 x 128) and a state of 128 x 4096 values
    "Qwen3-Coder-Next": Shape(
        48, 2, 2048, 10 * (3 * 512 + 2048), 16, head=256, every=4, state=36 * (3 * 8192 + 128 * 4096)
    ),
}


def parse_profile(name: str) -> StackConfig:
    return parse(profile_text(name, demo_models=Path("/m")), f"profile {name}", base=Path("/p"))


def memory_need(tier: Tier) -> Footprint:
    assert isinstance(tier.model, GgufModel)
    assert tier.model.size_gb
    shape = next(shape for name, shape in SHAPES.items() if name in str(tier.model.repo))
    header = GgufHeader(
        architecture="qwen",
        size=0,
        layers=shape.layers,
        kv_heads=tuple(0 if number % shape.every else shape.kv_heads for number in range(shape.layers)),
        key_length=shape.head,
        value_length=shape.head,
        context=0,
        vocabulary=151_936,
        embedding=shape.width,
        heads=shape.heads,
        hidden=shape.hidden,
        state=shape.state,
    )
    return footprint(tier, file_bytes=0, header=header)


@pytest.mark.parametrize("name", PROFILE_MEMORY_GB)
def test_each_profile_fits_the_memory_it_names(name: str) -> None:
    config = parse_profile(name)
    plan = memory_plan(
        {tier.name: memory_need(tier) for tier in config.tiers.values()},
        budget=round(PROFILE_MEMORY_GB[name] * GB),
        preloaded="code-fast",
    )
    assert not [tier for tier in config.tiers if plan.exceeds(tier)]
    assert plan.fits({"code-fast", "code-smart"})
    text = profile_text(name, demo_models=Path("/m"))
    assert name == "default" or f"Models may then have {PROFILE_MEMORY_GB[name]:g} GB" in " ".join(
        text.split()
    )


@pytest.mark.parametrize("name", PROFILE_MEMORY_GB)
def test_each_profile_has_the_roles_and_an_optional_hosted_tier(name: str) -> None:
    config = parse_profile(name)
    assert {"fast", "agent", "plan"} <= {str(tier.role) for tier in config.tiers.values()}
    text = enable_hosted(profile_text(name, demo_models=Path("/m")))
    assert parse(text, name, base=Path("/p")).tiers["code-ultra"].role == "ultra"
    ceiling = config.routing.mid_fidelity_ceiling
    assert all(tier.ctx_size > ceiling for tier in config.tiers.values() if tier.role in {"fast", "agent"})


def with_gpu(megabytes: int, ram: int = 64) -> Hardware:
    return Hardware(ram * GB, gpus=(Gpu("NVIDIA", megabytes * MB),))


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        *((Hardware(gb * GB, wired_limit=round(gb * GB * 2 / 3)), f"{gb}gb") for gb in (8, 16, 32)),
        (Hardware(64 * GB, wired_limit=48 * GB), "64gb"),
        (Hardware(128 * GB, wired_limit=96 * GB), "default"),
        (with_gpu(6144), "8gb"),
        (with_gpu(8192), "8gb"),
        (with_gpu(12288), "16gb"),
        (with_gpu(16376), "16gb"),
        (with_gpu(24564), "32gb"),
        # The system reports a little less memory than is built in.
        (Hardware(round(7.6 * GB)), "8gb"),
        (Hardware(round(15.5 * GB)), "16gb"),
        (Hardware(round(31.2 * GB)), "32gb"),
        (Hardware(round(62.7 * GB)), "64gb"),
    ],
)
def test_each_machine_gets_the_largest_profile_that_fits(machine: Hardware, expected: str) -> None:
    tiers = parse_profile("8gb").tiers.values()
    choice = choose_for_budget(budget_of(Settings(), tiers, machine, gpu_engine=True))
    assert (choice.profile, choice.fits) == (expected, True)


def test_a_machine_too_small_for_any_profile_gets_the_smallest() -> None:
    small = Hardware(4 * GB, container=True)
    assert choose_for_budget(budget_of(Settings(), [], small, gpu_engine=True)) == ProfileChoice(
        "8gb",
        "models may have 3.0 GB here (75% of 4 GB of this container's memory),"
        " and the smallest profile needs 5.3 GB",
        fits=False,
    )


def test_install_shows_which_profile_it_chose_and_why(tmp_path: Path) -> None:
    here = CliProject(tmp_path / "project")
    here.directory.mkdir()
    output = here.run("install").check().err
    assert "models may have" in output
    written = (here.state / "models.ini").read_text()
    chosen = next(name for name in PROFILE_MEMORY_GB if written == profile_text(name, demo_models=Path("/m")))
    assert f"profile {chosen}" in output
    assert "models may have" not in here.run("install").check().err
    other = CliProject(tmp_path / "other")
    other.directory.mkdir()
    assert "models may have" not in other.run("install", "--profile", "default").check().err
