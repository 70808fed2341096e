from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_llama_swap import (
    MATRIX_KEYS,
    MODEL_KEYS,
    TOP_LEVEL_KEYS,
    Model,
    model_sets,
    read_config,
    split_command,
)
from support.net import free_port
from support.yaml_text import load_yaml

from llmstack.config.model import (
    BackendKind,
    EngineSettings,
    GgufModel,
    HostedModel,
    Role,
    RopeScaling,
    Routing,
    Sampler,
    Settings,
    StackConfig,
    Tier,
)
from llmstack.errors import LlmstackError
from llmstack.generators.llama_swap import Peer, SwapSecrets, command_line, render, to_yaml
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_flags
from llmstack.llama_cpp.tiny import write_echo
from llmstack.serving.memory.eviction import memory_plan
from llmstack.serving.memory.footprint import Footprint
from llmstack.serving.memory.preflight import Obstacle
from llmstack.serving.memory.survey import Survey, TierSurvey
from llmstack.units import GB

GOLDEN = Path(__file__).parent / "golden"
SECRETS = SwapSecrets(key="the-key", seed="the-seed")
NATIVE = EngineBinary("native", Path("/opt/llama.cpp/llama-server"))
BUNDLED = EngineBinary("bundled", Path(sys.executable))
ENGINE = EngineSettings(n_gpu_layers=999)
YARN = replace(ENGINE, rope_scaling=RopeScaling("yarn", 4.0, 32_768))


def gguf(name: str, quant: str, ctx: int, temp: float, role: Role | None, **more: Any) -> Tier:
    model = GgufModel(repo=f"example/{name}-GGUF", file=f"{name}-{quant}.gguf", quant=quant)
    fields = {"engine": ENGINE, **more}
    return Tier(name, BackendKind.GGUF, model, ctx, role=role, sampler=Sampler(temp=temp), **fields)


FAST = gguf("code-fast", "Q5_K_M", 131_072, 0.2, Role.FAST, engine=YARN, description="short edits, ${PORT}")
SMART = gguf("code-smart", "Q4_K_M", 65_536, 0.5, Role.AGENT, aliases=("agent",))
PLAN = gguf("plan", "Q4_K_M", 131_072, 0.7, Role.PLAN, ttl=1200.0, channel="next")
NOFILTER = gguf(
    "plan-uncensored", "i1-Q4_K_M", 131_072, 0.85, Role.PLAN_UNCENSORED, aliases=("nofilter", "raw")
)
ULTRA = Tier(
    "code-ultra", BackendKind.LITELLM, HostedModel("anthropic", "claude-opus"), 200_000, role=Role.ULTRA
)
SIZES = {"code-fast": 2.5, "code-smart": 45.0, "plan": 18.6, "plan-uncensored": 13.0}


def stack(*tiers: Tier) -> StackConfig:
    return StackConfig(Settings(), Routing(), {tier.name: tier for tier in tiers})


REFERENCE = stack(FAST, SMART, PLAN, NOFILTER, ULTRA)


def make_survey(
    config: StackConfig,
    *,
    engine: EngineBinary = NATIVE,
    budget_gb: float = 48.0,
    without: tuple[str, ...] = (),
    models: Path = Path("/models"),
) -> Survey:
    """Return a survey in which every gguf tier can start, except those `without` a file."""
    tiers = {}
    for name, tier in config.tiers.items():
        if tier.backend is not BackendKind.GGUF:
            tiers[name] = TierSurvey(obstacle=Obstacle("not served here", ""))
            continue
        size = round(SIZES.get(name, 1.0) * GB)
        need = Footprint(size, compute=0)
        if name in without:
            tiers[name] = TierSurvey(need=need, obstacle=Obstacle("not on disk", "fetch it"))
        else:
            tiers[name] = TierSurvey(models / f"{name}.gguf", size, need)
    needs = {name: tier.need for name, tier in tiers.items() if tier.need is not None}
    return Survey(engine, tiers, memory_plan(needs, budget=round(budget_gb * GB), preloaded="code-fast"))


def text_of(config: StackConfig, survey: Survey | None = None, **more: Any) -> str:
    return render(config, survey or make_survey(config), SECRETS, **{"start_port": 10_001, **more})


def document(config: StackConfig, survey: Survey | None = None) -> dict[str, Any]:
    loaded: dict[str, Any] = load_yaml(text_of(config, survey))
    return loaded


def test_the_reference_stack_is_as_in_the_golden_file() -> None:
    text = text_of(REFERENCE).replace(sys.executable, "/usr/bin/python3")
    golden = GOLDEN / "llama-swap-reference.yaml"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_llama_swap_supports_every_key() -> None:
    # llama-swap ignores unknown keys, so a misspelt one would go unnoticed.
    output = document(stack(*REFERENCE.tiers.values(), gguf("with_underscore", "Q8_0", 4096, 0.1, None)))
    assert set(output) <= TOP_LEVEL_KEYS
    for model in output["models"].values():
        assert set(model) <= MODEL_KEYS
    (router,) = output["routing"].values()
    assert (set(router), router["use"], set(router["settings"])) == (
        {"use", "settings"},
        "matrix",
        {"matrix"},
    )
    assert set(router["settings"]["matrix"]) == MATRIX_KEYS


def test_commands_have_the_same_flags_as_in_the_built_in_pool(tmp_path: Path) -> None:
    path = tmp_path / "llama-swap.yaml"
    for engine in (NATIVE, BUNDLED):
        path.write_text(text_of(REFERENCE, make_survey(REFERENCE, engine=engine)))
        for port, (name, model) in enumerate(sorted(read_config(path)["models"].items()), start=10_001):
            tier, weights = REFERENCE.tiers[name], Path(f"/models/{name}.gguf")
            flags = (*server_flags(tier, weights), "--host", "127.0.0.1", "--port", str(port))
            assert tuple(split_command(model["cmd"])) == engine.argv(flags)
            assert model["proxy"] == f"http://127.0.0.1:{port}/{SECRETS.path(name)}"
            assert f"LLAMA_ARG_API_PREFIX=/{SECRETS.path(name)}" in model["env"]


def test_the_secret_path_of_one_model_server_does_not_tell_another_one() -> None:
    paths = {SECRETS.path("a"), SECRETS.path("b"), SwapSecrets(key="the-key", seed="other").path("a")}
    assert len(paths) == 3
    assert all(len(path) == 64 for path in paths)


@pytest.mark.parametrize("budget", [1.0, 20.0, 36.0, 48.0, 60.0, 500.0])
@pytest.mark.parametrize("without", [(), ("plan",), ("code-fast", "plan-uncensored")])
def test_the_matrix_holds_the_sets_of_the_memory_plan(budget: float, without: tuple[str, ...]) -> None:
    survey = make_survey(REFERENCE, budget_gb=budget, without=without)
    output = document(REFERENCE, survey)
    can_start = {name for name in SIZES if name not in without}
    assert set(output["models"]) == can_start
    if not without:
        assert model_sets(output) == [set(together) for together in survey.plan.sets()]
    assert {name for together in model_sets(output) for name in together} == can_start
    for together in model_sets(output):
        assert survey.plan.fits(together)
    costs = output["routing"]["router"]["settings"]["matrix"]["evict_costs"]
    assert set(costs) == can_start
    assert all(isinstance(cost, int) and cost >= 1 for cost in costs.values())
    others = [cost for name, cost in costs.items() if name != "code-fast"]
    assert costs.get("code-fast", 10**6) > sum(others)


def test_names_that_the_matrix_does_not_support_get_short_names() -> None:
    long = "a-name-of-more-than-thirty-two-characters"
    output = document(stack(*(gguf(name, "Q8_0", 4096, 0.1, None) for name in ("a_b", "tier1", long))))
    matrix = output["routing"]["router"]["settings"]["matrix"]
    assert matrix["vars"] == {"tier2": "a_b", "tier3": long}
    assert matrix["sets"] == {"set1": "tier2 & tier1 & tier3"}
    assert set(matrix["evict_costs"]) == {"tier1", "tier2", "tier3"}
    assert "vars" not in document(REFERENCE)["routing"]["router"]["settings"]["matrix"]


def test_litellm_is_a_peer_without_a_timeout() -> None:
    peer = Peer("http://127.0.0.1:10103", "its-key", ("code-ultra",))
    output = load_yaml(text_of(REFERENCE, litellm=peer))
    assert output["peers"]["litellm"] == {
        "proxy": "http://127.0.0.1:10103",
        "apiKey": "its-key",
        "models": ["code-ultra"],
        "timeouts": {"responseHeader": 0},
    }


def test_a_stack_without_a_gguf_tier_has_no_models() -> None:
    output = document(stack(ULTRA))
    assert output["models"] == {}
    assert "routing" not in output


@given(st.lists(st.text(st.characters(exclude_characters="\n\r\0", codec="utf-8")), max_size=6))
def test_arguments_survive_llama_swaps_parsing(words: list[str]) -> None:
    argv = ["/bin/program", *words, "${PORT}", "${PORT}x", "a ${PORT}", "#", "'${env.HOME}'", "\\", 'a"b', ""]
    line = command_line(argv, "plan")
    assert line.count("${") == argv.count("${PORT}")
    command = load_yaml(to_yaml({"cmd": line}))["cmd"].replace("${PORT}", "10001")
    assert split_command(command) == ["10001" if word == "${PORT}" else word for word in argv]


@pytest.mark.parametrize(
    ("word", "windows", "what"),
    [("two\nlines", False, "a line break"), ("a\r", True, "a line break"), ("C:\\${x}", True, "`${`")],
)
def test_an_argument_that_llama_swap_does_not_support_is_an_error(
    word: str, *, windows: bool, what: str
) -> None:
    with pytest.raises(LlmstackError, match=r"\[plan\] llama-swap does not support") as raised:
        command_line(["server", word], "plan", windows=windows)
    assert what in raised.value.message
    assert raised.value.hint is not None
    assert "swapper = builtin" in raised.value.hint


def test_windows_command_lines_are_quoted_for_windows() -> None:
    argv = ["C:\\Program Files\\python.exe", "--port", "${PORT}", 'a "b"']
    assert command_line(argv, "plan", windows=True) == (
        '"C:\\Program Files\\python.exe" --port ${PORT} "a \\"b\\""'
    )


@pytest.mark.engine
async def test_the_commands_start_real_models(tmp_path: Path) -> None:
    """Even with special characters in the path, after all that llama-swap does to a command."""
    models = tmp_path / 'it\'s ${HOME} # "here"'
    models.mkdir()
    small = EngineSettings(threads=1, cache_ram_gb=0.01, parallel=1)
    config = stack(
        *(
            Tier(name, BackendKind.GGUF, GgufModel(path=models / f"{name}.gguf"), 4096, engine=small)
            for name in ("one", "two")
        )
    )
    for name in config.tiers:
        write_echo(models / f"{name}.gguf", speaker=name, context=8192)
    path = tmp_path / "llama-swap.yaml"
    path.write_text(
        text_of(config, make_survey(config, engine=BUNDLED, models=models), start_port=free_port())
    )
    running = [Model(name, model) for name, model in read_config(path)["models"].items()]
    try:
        for model in running:
            async with asyncio.timeout(20):
                assert await model.start() is None, model.lines
            body = {"messages": [{"role": "user", "content": "hi"}]}
            url = f"{model.config['proxy']}/v1/chat/completions"
            async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
                answer = json.loads(await response.text())["choices"][0]["message"]["content"]
            assert answer == f"[{model.name}] You said: hi"
    finally:
        for model in running:
            await model.stop()
