"""The profiles for the machines people have: each fits its budget, each machine gets the one that fits."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from support.project import CliProject

from llmstack.config import MACHINES, GgufModel, Settings, StackConfig, enable_hosted, parse, profile_text
from llmstack.llama_cpp.model_shape import GgufHeader
from llmstack.serving.memory.budget import budget_of
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.footprint import GB, MB, Footprint, footprint
from llmstack.serving.memory.hardware import Gpu, Hardware
from llmstack.stack.install.profile_choice import ProfileChoice, proposal

if TYPE_CHECKING:
    from llmstack.config import Tier


class Shape(NamedTuple):
    """From each model's own config.json."""

    layers: int
    kv_heads: int
    width: int
    hidden: int  # three feed-forward widths; of a mixture, those of the experts at work, and their outputs
    heads: int
    head: int = 128
    every: int = 1  # attention in every Nth layer
    state: int = 0  # values of all recurrent layers


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


def profile(name: str) -> StackConfig:
    return parse(profile_text(name, demo_models=Path("/m")), f"profile {name}", base=Path("/p"))


def need(tier: Tier) -> Footprint:
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


@pytest.mark.parametrize("name", MACHINES)
def test_each_profile_fits_the_memory_it_wants(name: str) -> None:
    config = profile(name)
    plan = memory_plan(
        {tier.name: need(tier) for tier in config.tiers.values()},
        budget=round(MACHINES[name] * GB),
        preloaded="code-fast",
    )
    assert not [tier for tier in config.tiers if plan.exceeds(tier)]
    assert plan.fits({"code-fast", "code-smart"})
    said = profile_text(name, demo_models=Path("/m"))
    assert name == "default" or f"Models may then have {MACHINES[name]:g} GB" in " ".join(said.split())


@pytest.mark.parametrize("name", MACHINES)
def test_each_profile_has_the_roles_and_a_hosted_tier_to_switch_on(name: str) -> None:
    config = profile(name)
    assert {"fast", "agent", "plan"} <= {str(tier.role) for tier in config.tiers.values()}
    text = enable_hosted(profile_text(name, demo_models=Path("/m")))
    assert parse(text, name, base=Path("/p")).tiers["code-ultra"].role == "ultra"
    ceiling = config.routing.mid_fidelity_ceiling
    assert all(tier.ctx_size > ceiling for tier in config.tiers.values() if tier.role in {"fast", "agent"})


def card(megabytes: int, ram: int = 64) -> Hardware:
    return Hardware(ram * GB, gpus=(Gpu("NVIDIA", megabytes * MB),))


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        *((Hardware(gb * GB, wired_limit=round(gb * GB * 2 / 3)), f"{gb}gb") for gb in (8, 16, 32)),
        (Hardware(64 * GB, wired_limit=48 * GB), "64gb"),
        (Hardware(128 * GB, wired_limit=96 * GB), "default"),
        (card(6144), "8gb"),
        (card(8192), "8gb"),
        (card(12288), "16gb"),
        (card(16376), "16gb"),
        (card(24564), "32gb"),
        # A computer has a little less than it is said to have.
        (Hardware(round(7.6 * GB)), "8gb"),
        (Hardware(round(15.5 * GB)), "16gb"),
        (Hardware(round(31.2 * GB)), "32gb"),
        (Hardware(round(62.7 * GB)), "64gb"),
    ],
)
def test_each_machine_gets_the_profile_that_fits(machine: Hardware, expected: str) -> None:
    tiers = profile("8gb").tiers.values()
    chosen = proposal(budget_of(Settings(), tiers, machine, gpu_engine=True))
    assert (chosen.profile, chosen.fits) == (expected, True)


def test_a_machine_too_small_for_any_is_told_so() -> None:
    small = Hardware(4 * GB, container=True)
    assert proposal(budget_of(Settings(), [], small, gpu_engine=True)) == ProfileChoice(
        "8gb",
        "models may have 3.0 GB here (75% of 4 GB of this container's memory),"
        " and the smallest profile wants 5.3 GB",
        fits=False,
    )


def test_install_says_which_profile_it_took_and_why(tmp_path: Path) -> None:
    here = CliProject(tmp_path / "project")
    here.directory.mkdir()
    said = here.run("install").check().err
    assert "models may have" in said
    written = (here.state / "models.ini").read_text()
    chosen = next(name for name in MACHINES if written == profile_text(name, demo_models=Path("/m")))
    assert f"profile {chosen}" in said
    assert "models may have" not in here.run("install").check().err
    other = CliProject(tmp_path / "other")
    other.directory.mkdir()
    assert "models may have" not in other.run("install", "--profile", "default").check().err
