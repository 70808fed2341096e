from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from support.parsing import BASE, EVERYTHING, problems

from llmstack.config import (
    BackendKind,
    EngineSettings,
    GgufModel,
    HostedModel,
    McpModel,
    Role,
    RopeScaling,
    Routing,
    Sampler,
    Settings,
    StackConfig,
    Tier,
    parse,
    parse_bytes,
    schema,
)
from llmstack.errors import ConfigError, LlmstackError
from llmstack.trust.plain_files import read_plain_file


def test_every_key_is_read_into_its_field() -> None:
    shared = EngineSettings(
        n_gpu_layers=99,
        parallel=4,
        cache_ram_gb=2.0,
        flash_attn="auto",
        jinja=False,
        threads=8,
        cache_type_k="f16",
        cache_type_v="bf16",
    )
    limits: dict[str, Any] = {"ctx_size": 32768, "max_output_tokens": 4096, "ttl": 1200.0}
    tiers = [
        Tier(
            name="Hub.1",
            backend=BackendKind.GGUF,
            model=GgufModel("own/repo-GGUF", "a-Q4.gguf", size_gb=1.5, quant="Q4"),
            next_model=GgufModel("own/other-GGUF", "a-Q5.gguf", size_gb=2.0, quant="Q5"),
            ctx_size=65536,
            kind="code",
            role=Role.FAST,
            aliases=("quick", "q/1"),
            max_output_tokens=4096,
            sampler=Sampler(temp=0.2),
            ttl=0.0,
            fallback=("local", "tool"),
            description="the first; one",
            serves="embedding",
            modalities=("text", "image"),
            engine=EngineSettings(
                n_gpu_layers=None,
                parallel=1,
                cache_ram_gb=2.0,
                flash_attn="auto",
                jinja=False,
                threads=8,
                cache_type_k="f16",
                cache_type_v="bf16",
                rope_scaling=RopeScaling("yarn", 2.0, 32768),
                chat_template="chatml",
                extra_args=("--no-warmup",),
            ),
            line=32,
        ),
        Tier(
            name="local",
            backend=BackendKind.GGUF,
            model=GgufModel(path=BASE / "../weights/b.gguf"),
            engine=shared,
            line=57,
            **limits,
        ),
        Tier(
            name="served",
            backend=BackendKind.SERVER,
            model=HostedModel("ollama", "qwen3:30b", "http://10.0.0.5:11434"),
            next_model=HostedModel("vllm", "qwen3", "http://10.0.0.5:11434"),
            role=Role.AGENT,
            line=60,
            **limits,
        ),
        Tier(
            name="cloud",
            backend=BackendKind.LITELLM,
            model=HostedModel("bedrock", "eu.anthropic.opus"),
            next_model=HostedModel("anthropic", "opus"),
            role=Role.ULTRA,
            line=66,
            ctx_size=32768,
            max_output_tokens=8192,
            ttl=1200.0,
        ),
        Tier(
            name="direct",
            backend=BackendKind.SERVER,
            model=HostedModel("anthropic", "sonnet"),
            next_model=HostedModel("ollama", "qwen3"),
            line=72,
            **limits,
        ),
        Tier(
            name="proxied",
            backend=BackendKind.LITELLM,
            model=HostedModel("ollama", "qwen3"),
            line=77,
            **limits,
        ),
        Tier(
            name="tool",
            backend=BackendKind.MCP,
            model=McpModel(("llmstack", "mcp"), "ask"),
            aliases=("talk",),
            line=81,
            **limits,
        ),
    ]
    expected = StackConfig(
        settings=Settings(
            host="0.0.0.0",  # noqa: S104 - parsed, not bound
            router_port=20101,
            swap_port=20102,
            litellm_port=20103,
            start_port=20001,
            swapper="builtin",
            memory_gb=48.0,
            api_key_env="MY_KEY",
            allowed_hosts=("host.docker.internal",),
            kv_cache_gb=20.0,
        ),
        routing=Routing(
            high_fidelity_ceiling=8192,
            mid_fidelity_ceiling=16384,
            multi_turn=5,
            ultra_triggers=("[big]", "please:"),
            sticky=False,
            while_loading="resident",
        ),
        tiers={tier.name: tier for tier in tiers},
        source="models.ini",
        text=EVERYTHING,
    )
    config = parse(EVERYTHING, "models.ini", base=BASE)
    assert config == expected
    assert list(config.tiers) == list(expected.tiers)


def test_tiers_are_found_by_name_alias_and_role() -> None:
    config = parse(EVERYTHING, "models.ini", base=BASE)
    assert [config.find(name) for name in ("tool", "talk", "q/1", "nobody")] == [
        config.tiers["tool"],
        config.tiers["tool"],
        config.tiers["Hub.1"],
        None,
    ]
    assert [config.by_role(role) for role in (Role.FAST, Role.ULTRA, Role.PLAN)] == [
        config.tiers["Hub.1"],
        config.tiers["cloud"],
        None,
    ]


def test_the_next_channel_serves_every_queued_upgrade() -> None:
    config = parse(EVERYTHING, "models.ini", base=BASE)
    assert config.for_channel("current") == config
    next_tiers = config.for_channel("next").tiers.values()
    assert [(tier.model.label, tier.channel) for tier in next_tiers] == [
        ("a-Q5.gguf", "next"),
        ("b.gguf", "current"),
        ("vllm/qwen3", "next"),
        ("anthropic/opus", "next"),
        ("ollama/qwen3", "next"),
        ("ollama/qwen3", "current"),
        ("llmstack ask", "current"),
    ]


def test_the_example_uses_every_key() -> None:
    used = {line.partition(" = ")[0] for line in EVERYTHING.split("\n") if " = " in line}
    assert used == {*schema.DEFAULT, *schema.ROUTING, *schema.TIER}


def test_a_minimal_file_gets_defaults() -> None:
    text = "[only]\nctx_size = 4k\npath = /x.gguf\n"
    assert parse(text, "m.ini", base=BASE) == StackConfig(
        settings=Settings(),
        routing=Routing(),
        tiers={
            "only": Tier(
                name="only",
                backend=BackendKind.GGUF,
                model=GgufModel(path=Path("/x.gguf")),
                ctx_size=4096,
                line=1,
            )
        },
        source="m.ini",
        text=text,
    )


def test_all_mistakes_are_reported_together_in_line_order() -> None:
    text = """\
[DEFAULT]
ruoter_port = 1

[code-fast]
hf_repo = a/b
ctx_size = 64kb
role = agnet

[plan]
model = ollama/
ctx_size = 8k
fallback = code-fats
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, ".llmstack/models.ini", base=BASE)
    roles = "`fast`, `agent`, `ultra`, `plan` or `plan-uncensored`"
    assert str(caught.value).split("\n") == [
        ".llmstack/models.ini:2: [DEFAULT] ruoter_port: unknown key",
        ".llmstack/models.ini:5: [code-fast] hf_repo: needs `hf_file`, the name of one file in it",
        ".llmstack/models.ini:6: [code-fast] ctx_size: expected a size, got `64kb`",
        f".llmstack/models.ini:7: [code-fast] role: expected {roles}, got `agnet`",
        ".llmstack/models.ini:10: [plan] model: expected the name of a model after `ollama/`, got `ollama/`",
        ".llmstack/models.ini:12: [plan] fallback: expected the name of a tier, got `code-fats`",
    ]
    assert [problem.hint for problem in caught.value.problems] == [
        "did you mean `router_port`?",
        None,
        "write `ctx_size = 64k` or `65536`",
        "write `role = agent`",
        None,
        "did you mean `code-fast`?",
    ]


@pytest.mark.parametrize("text", ["", "; nothing\n", "[DEFAULT]\nswapper = auto\n", "[ROUTING]\n"])
def test_a_file_without_tiers_is_an_error(text: str) -> None:
    assert [(problem.line, problem.section, problem.message) for problem in problems(text)] == [
        (0, "", "no tier: expected at least one section besides [DEFAULT] and [ROUTING]")
    ]


def test_a_long_value_is_shortened_in_the_message() -> None:
    (problem,) = problems(f"[a]\nctx_size = 8k\npath = x\nparallel = {'9' * 100}\n")
    assert problem.message == f"parallel: expected a whole number from 1 to 256, got `{'9' * 80}…`"


@pytest.mark.parametrize(
    "text",
    [
        "[DEFAULT]\nrouter_port = 10002\n[a]\nctx_size = 8k\npath = x\n",
        "[ROUTING]\nhigh_fidelity_ceiling = 32000\n[a]\nctx_size = 8k\npath = x\n",
        "[DEFAULT]\nflash_attn = off\nparallel = 4\n[a]\nctx_size = 8k\nmodel = openai/x\n",
        "[DEFAULT]\nflash_attn = off\ncache_type_v = bf16\n[a]\nctx_size = 8k\npath = x\n",
    ],
)
def test_near_contradictions_are_accepted(text: str) -> None:
    assert list(parse(text, "m.ini", base=BASE).tiers) == ["a"]


def test_an_invalid_tier_can_be_named_by_other_tiers() -> None:
    text = "[a]\nctx_size = bad\npath = x\naliases = z\n[b]\nctx_size = 8k\npath = y\nfallback = a, z\n"
    assert [problem.message for problem in problems(text)] == ["ctx_size: expected a size, got `bad`"]


def test_parsing_keeps_the_text_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    raw = "\ufeff[a]\r\nctx_size = 8k ; naïve\r\npath = x.gguf\r\n"
    path.write_bytes(raw.encode())
    config = parse_bytes(path.read_bytes(), path)
    assert (config.text, config.source) == (raw, str(path))
    assert config.tiers["a"].model == GgufModel(path=tmp_path / "x.gguf")


def test_parsing_names_the_file_in_its_error(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text("[a]\npath = x.gguf\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        parse_bytes(path.read_bytes(), path)
    assert str(caught.value) == f"{path}:1: [a] ctx_size: missing: every tier needs its window in tokens"


def test_a_file_that_cannot_be_read_is_an_error_with_a_hint(tmp_path: Path) -> None:
    missing, directory, binary = tmp_path / "none.ini", tmp_path / "dir.ini", tmp_path / "utf16.ini"
    directory.mkdir()
    binary.write_bytes("[a]\n".encode("utf-16"))
    errors = {}
    huge = tmp_path / "huge.ini"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    pipe = tmp_path / "pipe.ini"  # nobody writes to it, so opening it would block
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    else:
        pipe.mkdir()
    assert read_plain_file(missing) is None
    for path in (directory, binary, huge, pipe, binary / "below"):
        with pytest.raises(LlmstackError) as caught:
            parse_bytes(read_plain_file(path) or b"", path)
        errors[path] = (caught.value.message, caught.value.hint)
    assert errors == {
        directory: (f"{directory} is not a plain file", "remove it"),
        huge: (f"{huge} is larger than 4 MiB", "remove it"),
        pipe: (f"{pipe} is not a plain file", "remove it"),
        binary: (f"{binary}: expected UTF-8 text, got byte 0xff at 0", "save the file again as UTF-8"),
        binary / "below": (
            f"cannot read {binary / 'below'}: Not a directory",
            "check the permissions of the file",
        ),
    }
