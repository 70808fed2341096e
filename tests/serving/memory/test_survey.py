from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.gguf import gguf, llama
from support.hostile_gguf import no_shape
from support.native import native_server

from llmstack.config.model import (
    BackendKind,
    EngineSettings,
    GgufModel,
    HostedModel,
    Role,
    Routing,
    Settings,
    StackConfig,
    Tier,
)
from llmstack.serving.memory import survey as survey_module
from llmstack.serving.memory.survey import survey
from llmstack.units import GB

if TYPE_CHECKING:
    from pathlib import Path


def config(*tiers: Tier) -> StackConfig:
    return StackConfig(Settings(memory_gb=4), Routing(), {tier.name: tier for tier in tiers})


def tier(name: str, path: Path, **options: object) -> Tier:
    settings = EngineSettings(cache_ram_gb=0.5)
    return Tier(name, BackendKind.GGUF, GgufModel(path=path), 1024, engine=settings, **options)  # type: ignore[arg-type]


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    program = str(native_server(tmp_path))
    return {"PATH": "", "LLAMA_SERVER_BIN": program, "LITELLM_BIN": program, "HF_HUB_CACHE": str(tmp_path)}


def test_the_survey_says_which_tiers_can_start_and_why_others_cannot(
    tmp_path: Path, env: dict[str, str]
) -> None:
    good, bad = tmp_path / "good.gguf", tmp_path / "bad.gguf"
    good.write_bytes(gguf(llama()) + bytes(1000))
    bad.write_bytes(b"GGUF")
    hub = Tier("hub", BackendKind.GGUF, GgufModel(repo="org/name", file="m.gguf", size_gb=3.0), 1024)
    hosted = Tier("hosted", BackendKind.LITELLM, HostedModel("anthropic", "opus"), 1024)
    result = survey(
        config(
            tier("fast", good, role=Role.FAST),
            tier("bad", bad),
            tier("gone", tmp_path / "x.gguf"),
            hub,
            hosted,
        ),
        env,
    )
    assert result.engine is not None
    assert result.engine.kind == "native"
    assert result.tiers["fast"].weights == good
    assert result.tiers["fast"].size_bytes == good.stat().st_size
    assert result.unavailable == {
        "bad": f"{bad}: expected a GGUF model: the file ends inside its header"
        " (the file is damaged or of another format; download it again)",
        "gone": f"{tmp_path / 'x.gguf'} is not on disk (put the file there, or correct `path` in models.ini)",
        "hub": "m.gguf is not on disk (fetch it with `llmstack download hub`)",
        "hosted": "$ANTHROPIC_API_KEY is not set, which anthropic requires"
        " (export ANTHROPIC_API_KEY=… and `llmstack restart`)",
    }
    assert list(result.plan.needs) == ["fast", "bad", "gone", "hub"]
    assert result.plan.budget == 4 * GB
    assert result.plan.needs["hub"] > 3 * GB
    assert max(result.plan.costs, key=lambda name: result.plan.costs[name]) == "fast"


def test_without_an_engine_no_tier_can_start(tmp_path: Path, env: dict[str, str]) -> None:
    good = tmp_path / "good.gguf"
    good.write_bytes(gguf(llama()))
    result = survey(config(tier("a", good)), {**env, "LLAMA_SERVER_BIN": "/no/such"})
    assert result.engine is None
    assert result.unavailable["a"].startswith(
        "LLAMA_SERVER_BIN: expected a program that can be run, got `/no/such`"
    )


@pytest.mark.parametrize("limit", ["FILE_S", "ALL_FILES_S"])
def test_a_file_that_cannot_be_read_in_time_costs_only_its_own_tier(
    tmp_path: Path, env: dict[str, str], monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    slow = tmp_path / "slow.gguf"
    no_shape(slow)
    monkeypatch.setattr(survey_module, limit, 0.001)
    hosted = Tier("hosted", BackendKind.LITELLM, HostedModel("ollama", "m"), 1024)
    result = survey(config(tier("slow", slow), tier("also-slow", slow), hosted), env)
    reason = "it takes longer than 0.001 s" if limit == "FILE_S" else "the files of the tiers take too long"
    assert set(result.unavailable) == {"slow", "also-slow"}
    assert f"cannot read {slow.name}: {reason}" in result.unavailable["also-slow"]
    assert "check whether its disk or network answers" in result.unavailable["also-slow"]
