from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.config import (
    Backend,
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
    load,
    parse,
    profile_text,
    schema,
)
from llmstack.errors import ConfigError, LlmstackError, Problem

BASE = Path("/project/.llmstack")

EVERYTHING = """\
[DEFAULT]
host = 0.0.0.0
router_port = 20101
swap_port = 20102
litellm_port = 20103
start_port = 20001
swapper = builtin
memory_gb = 48
api_key_env = MY_KEY
allowed_hosts = host.docker.internal
kv_cache_gb = 20
ctx_size = 32k
max_output_tokens = 4k
ttl = 20m
n_gpu_layers = 99
parallel = 4
cache_ram_gb = 2
flash_attn = auto
jinja = no
threads = 8
cache_type_k = f16
cache_type_v = bf16

[ROUTING]
high_fidelity_ceiling = 8k
mid_fidelity_ceiling = 16k
multi_turn = 5
ultra_triggers = [big], please:
sticky = false
while_loading = resident

[Hub.1]
tier = code
role = fast
aliases = quick, q/1
hf_repo = own/repo-GGUF
hf_file = a-Q4.gguf
quant = Q4
size_gb = 1.5
hf_repo_next = own/other-GGUF
hf_file_next = a-Q5.gguf
quant_next = Q5
size_gb_next = 2
ctx_size = 64k
parallel = 1
n_gpu_layers = auto
sampler = temp=0.2
rope_scaling = yarn(scale=2, orig_ctx=32k)
chat_template = chatml
extra_args = --no-warmup
ttl = 0
fallback = local, talk
description = the first; one
serves = embedding
modalities = text, image

[local]
path = ../weights/b.gguf

[served]
role = agent
model = ollama/qwen3:30b
model_next = vllm/qwen3
base_url = http://10.0.0.5:11434

[cloud]
role = ultra
model = bedrock/eu.anthropic.opus
model_next = anthropic/opus
max_output_tokens = 8k

[direct]
backend = server
model = anthropic/sonnet
model_next = ollama/qwen3

[proxied]
backend = litellm
model = ollama/qwen3

[tool]
backend = mcp
aliases = talk
command = llmstack mcp
tool = ask
"""


def test_everything_a_file_can_say() -> None:
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
            backend=Backend.GGUF,
            model=GgufModel("own/repo-GGUF", "a-Q4.gguf", size_gb=1.5, quant="Q4"),
            queued=GgufModel("own/other-GGUF", "a-Q5.gguf", size_gb=2.0, quant="Q5"),
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
            backend=Backend.GGUF,
            model=GgufModel(path=BASE / "../weights/b.gguf"),
            engine=shared,
            line=57,
            **limits,
        ),
        Tier(
            name="served",
            backend=Backend.SERVER,
            model=HostedModel("ollama", "qwen3:30b", "http://10.0.0.5:11434"),
            queued=HostedModel("vllm", "qwen3", "http://10.0.0.5:11434"),
            role=Role.AGENT,
            line=60,
            **limits,
        ),
        Tier(
            name="cloud",
            backend=Backend.LITELLM,
            model=HostedModel("bedrock", "eu.anthropic.opus"),
            queued=HostedModel("anthropic", "opus"),
            role=Role.ULTRA,
            line=66,
            ctx_size=32768,
            max_output_tokens=8192,
            ttl=1200.0,
        ),
        Tier(
            name="direct",
            backend=Backend.SERVER,
            model=HostedModel("anthropic", "sonnet"),
            queued=HostedModel("ollama", "qwen3"),
            line=72,
            **limits,
        ),
        Tier(
            name="proxied", backend=Backend.LITELLM, model=HostedModel("ollama", "qwen3"), line=77, **limits
        ),
        Tier(
            name="tool",
            backend=Backend.MCP,
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


def test_the_next_channel_runs_every_queued_upgrade() -> None:
    config = parse(EVERYTHING, "models.ini", base=BASE)
    assert config.on("current") == config
    flipped = config.on("next").tiers.values()
    assert [(tier.model.label, tier.channel) for tier in flipped] == [
        ("a-Q5.gguf", "next"),
        ("b.gguf", "current"),
        ("vllm/qwen3", "next"),
        ("anthropic/opus", "next"),
        ("ollama/qwen3", "next"),
        ("ollama/qwen3", "current"),
        ("llmstack ask", "current"),
    ]


def test_the_example_above_uses_every_key_there_is() -> None:
    used = {line.partition(" = ")[0] for line in EVERYTHING.split("\n") if " = " in line}
    assert used == {*schema.DEFAULT, *schema.ROUTING, *schema.TIER}


def test_the_least_a_file_must_say() -> None:
    text = "[only]\nctx_size = 4k\npath = /x.gguf\n"
    assert parse(text, "m.ini", base=BASE) == StackConfig(
        settings=Settings(),
        routing=Routing(),
        tiers={
            "only": Tier(
                name="only",
                backend=Backend.GGUF,
                model=GgufModel(path=Path("/x.gguf")),
                ctx_size=4096,
                line=1,
            )
        },
        source="m.ini",
        text=text,
    )


def problems(text: str) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "m.ini", base=BASE)
    return list(caught.value.problems)


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


CONTRADICTIONS = """\
[default]
;! expected `[DEFAULT]`, in capitals
swapper = auto
[a]
ctx_size = 8k
path = x

[a b]
;! expected a tier's name of letters, digits and `. _ -`, 64 characters at most
ctx_size = 8k
path = x

[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
;! expected a tier's name of letters, digits and `. _ -`, 64 characters at most
ctx_size = 8k
path = x

[auto]
;! `auto` is reserved
ctx_size = 8k
path = x

[Router]
;! `Router` is reserved
ctx_size = 8k
path = x

[DEFAULT]
hf_repo = a/b
;! hf_repo: belongs in a tier, not here
[ROUTING]
parallel = 1
;! parallel: belongs in [DEFAULT] or a tier, not here
[a]
ctx_size = 8k
path = x
path = y
;! path: written twice, on lines 9 and 10
router_port = 1
;! router_port: belongs in [DEFAULT], not here
ctx_sise = 8k
;! ctx_sise: unknown key
role =
;! role: expected a value, got nothing
description = ; only a comment
;! description: expected a value, got nothing

[a]
ctx_size = 8k
path = x
[a]
;! section written twice, on lines 1 and 4
ctx_size = 8k
path = x
role = fats
;! role: expected `fast`, `agent`, `ultra`, `plan` or `plan-uncensored`, got `fats`

[a]
;! ctx_size: missing: every tier needs its window in tokens
path = x

[a]
;! ctx_size: missing: every tier needs its window in tokens
;! model: missing: nothing says what serves this tier
command = x
tool = y

[a]
ctx_size = 8k
path = x
max_output_tokens = 8k
;! max_output_tokens: an answer of 8192 tokens leaves no room for a prompt in a window of 8192

[DEFAULT]
max_output_tokens = 16k
[a]
ctx_size = 8k
;! ctx_size: an answer of 16384 tokens leaves no room for a prompt in a window of 8192
path = x

[DEFAULT]
ctx_size = 64x
;! ctx_size: expected a size, got `64x`
[a]
path = x
[b]
path = y

[a]
ctx_size = 8k
backend = ggfu
;! backend: expected `gguf`, `litellm`, `server` or `mcp`, got `ggfu`

[a]
ctx_size = 8k
backend = gguf
;! backend: a gguf tier needs a file

[a]
ctx_size = 8k
backend = litellm
;! backend: a litellm tier needs `model = <provider>/<id>`

[a]
ctx_size = 8k
backend = mcp
;! backend: an mcp tier needs `command`
;! backend: an mcp tier needs `tool`

[a]
ctx_size = 8k
path = x
model = groq/x
;! model: is for `litellm` or `server` tiers, and this is a `gguf` tier

[a]
ctx_size = 8k
model = groq/x
parallel = 2
;! parallel: is for `gguf` tiers, and this is a `litellm` tier
hf_file_next = x.gguf
;! hf_file_next: is for `gguf` tiers, and this is a `litellm` tier
tool = x
;! tool: is for `mcp` tiers, and this is a `litellm` tier

[a]
ctx_size = 8k
backend = litellm
;! backend: a litellm tier needs `model = <provider>/<id>`
path = x
;! path: is for `gguf` tiers, and this is a `litellm` tier

[a]
ctx_size = 8k
path = x
;! path: a tier has either `path` or `hf_repo`, not both
hf_repo = a/b
hf_file = c.gguf

[a]
ctx_size = 8k
hf_repo = a/b
;! hf_repo: needs `hf_file`, the name of one file in it

[a]
ctx_size = 8k
hf_file = c.gguf
;! hf_file: needs `hf_repo`, the repository it is in

[a]
ctx_size = 8k
path = x
hf_file_next = c.gguf
;! hf_file_next: needs `hf_repo`: an upgrade is fetched from the hub

[a]
ctx_size = 8k
hf_repo = a/b
hf_file = c.gguf
hf_repo_next = a/c
;! hf_repo_next: needs `hf_file_next`, the queued upgrade it describes
size_gb_next = 2
;! size_gb_next: needs `hf_file_next`, the queued upgrade it describes
quant_next = Q5
;! quant_next: needs `hf_file_next`, the queued upgrade it describes

[a]
ctx_size = 8k
path = x
flash_attn = off
;! flash_attn: llama.cpp cannot keep values as `q8_0` without flash attention

[DEFAULT]
flash_attn = off
;! flash_attn: llama.cpp cannot keep values as `q8_0` without flash attention
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y
[c]
ctx_size = 8k
path = z
cache_type_v = f16

[a]
ctx_size = 8k
model = openai-compat/x
;! model: expected another prefix (`openai-compat/` is reserved), got `openai-compat/x`

[a]
ctx_size = 8k
model = groq/x
model_next = ollama/x
;! model_next: `ollama/` is served by server, and `groq/` by litellm

[a]
ctx_size = 8k
backend = server
model = groq/x
;! model: `groq/` cannot be reached with `backend = server`
model_next = azure/x
;! model_next: `azure/` cannot be reached with `backend = server`

[a]
ctx_size = 8k
path = x
role = fast
[b]
ctx_size = 8k
path = y
role = fast
;! role: `fast` is already the role of [a] (line 1)

[a]
ctx_size = 8k
path = x
aliases = auto, b
;! aliases: `auto` is the router's own model
;! aliases: `b` is the name of a tier (line 7)
[b]
ctx_size = 8k
path = y
aliases = z
[c]
ctx_size = 8k
path = y
aliases = y, z
;! aliases: `z` is already an alias of [b]

[a]
ctx_size = 8k
path = x
aliases = z
fallback = z, code
;! fallback: `z` is this tier itself
;! fallback: expected the name of a tier, got `code`

[a]
ctx_size = 8k
path = x
[A]
;! differs from [a] (line 1) in case only
ctx_size = 8k
path = y
[a_next]
;! `a_next` is what the upgrade of [a] is called
ctx_size = 8k
path = z

[DEFAULT]
router_port = 10103
;! router_port: 10103 is both `router_port` and `litellm_port`
[a]
ctx_size = 8k
path = x

[DEFAULT]
start_port = 10101
;! start_port: 10101 is both `router_port` and `start_port`
[a]
ctx_size = 8k
path = x

[DEFAULT]
router_port = 10002
;! router_port: model servers take 10001 to 10002, and `router_port` is 10002
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y

[DEFAULT]
start_port = 65535
;! start_port: 2 model servers do not fit above 65535
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y

[a]
ctx_size = 8k
path = x
[ROUTING]
mid_fidelity_ceiling = 8k
;! mid_fidelity_ceiling: the mid ceiling (8192) is below the high one (12000)

[a]
ctx_size = 8k
path = x
[ROUTING]
high_fidelity_ceiling = 32k
;! high_fidelity_ceiling: the mid ceiling (32000) is below the high one (32768)
"""


def annotated(case: str) -> list[tuple[int, str, str]]:
    """What a case expects: each `;! message` is a problem of the nearest line above that is none."""
    expected, line, section = [], 0, ""
    for number, text in enumerate(case.split("\n"), start=1):
        if text.startswith(";! "):
            expected.append((line, section, text.removeprefix(";! ")))
        else:
            line = number
            section = text.strip("[]") if text.startswith("[") else section
    return expected


@pytest.mark.parametrize("case", CONTRADICTIONS.strip("\n").split("\n\n"))
def test_contradictions(case: str) -> None:
    assert [(one.line, one.section, one.message) for one in problems(case)] == annotated(case)


@pytest.mark.parametrize("text", ["", "; nothing\n", "[DEFAULT]\nswapper = auto\n", "[ROUTING]\n"])
def test_a_file_without_tiers(text: str) -> None:
    assert [(one.line, one.section, one.message) for one in problems(text)] == [
        (0, "", "no tier: expected at least one section beside [DEFAULT] and [ROUTING]")
    ]


def test_a_long_value_is_shortened() -> None:
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
def test_what_only_comes_close_to_a_contradiction_is_fine(text: str) -> None:
    assert list(parse(text, "m.ini", base=BASE).tiers) == ["a"]


BANNED = "secrets do not belong in this file, which is meant to be committed"
LOOKS = "the value looks like a secret, and this file is meant to be committed"


@pytest.mark.parametrize(
    ("key", "value", "message", "variable"),
    [
        ("api_key", "whatever", BANNED, "<PROVIDER>_API_KEY"),
        ("Token", "whatever", BANNED, "<PROVIDER>_API_KEY"),
        ("hf_token", "whatever", BANNED, "HF_TOKEN"),
        ("anthropic_api_key", "whatever", BANNED, "ANTHROPIC_API_KEY"),
        ("aws_access_key_id", "whatever", BANNED, "AWS_ACCESS_KEY_ID"),
        ("aws_secret_access_key", "whatever", BANNED, "AWS_SECRET_ACCESS_KEY"),
        ("aws_session_token", "whatever", BANNED, "AWS_SESSION_TOKEN"),
        ("aws_role_arn", "whatever", BANNED, "AWS_ROLE_ARN"),
        ("password", "", BANNED, "<PROVIDER>_API_KEY"),
        ("description", "sk-short", LOOKS, "<PROVIDER>_API_KEY"),
        ("description", "use sk-ant-api03-abcdef here", LOOKS, "<PROVIDER>_API_KEY"),
        ("ctx_size", "AKIAIOSFODNN7EXAMPLE", LOOKS, "<PROVIDER>_API_KEY"),
        ("unknown", "ghp_0123456789abcdefghij", LOOKS, "<PROVIDER>_API_KEY"),
        ("base_url", "https://me:hunter2@example.com", LOOKS, "<PROVIDER>_API_KEY"),
        ("extra_args", "--api-key hunter2", LOOKS, "<PROVIDER>_API_KEY"),
        ("command", "env OPENAI_API_KEY=hunter2 serve", LOOKS, "<PROVIDER>_API_KEY"),
        ("description", "arn:aws:iam::123456789012:role/admin", LOOKS, "<PROVIDER>_API_KEY"),
    ],
)
def test_secrets_are_refused_and_never_repeated(key: str, value: str, message: str, variable: str) -> None:
    text = f"[a]\nctx_size = 8k\npath = x.gguf\n{key} = {value}\n"
    found = [one for one in problems(text) if one.line == 4 and message in one.message]
    hint = (
        f"remove it here and export `{variable}` in the environment instead; if it was committed, revoke it"
    )
    assert found == [Problem(4, "a", f"{key.lower()}: {message}", hint)]
    assert not value or value not in repr(problems(text))


@pytest.mark.parametrize(
    "value",
    [
        "ASIAIOSFODNN7EXAMPLE",
        "github_pat_0123456789abcdefghij",
        "hf_0123456789abcdefghij",
        "gsk_0123456789abcdefghij",
        "AIza0123456789abcdefghij",
        "xoxb-0123456789-abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "-----BEGIN PRIVATE KEY-----",
        "Bearer 0123456789",
        "--hf-token=hunter2",
    ],
)
def test_values_of_known_kinds_of_secrets_are_refused(value: str) -> None:
    (problem,) = problems(f"[a]\nctx_size = 8k\npath = x.gguf\ndescription = {value}\n")
    assert (problem.line, problem.message) == (4, f"description: {LOOKS}")


def test_what_only_resembles_a_secret_is_fine() -> None:
    text = """\
[DEFAULT]
api_key_env = MY_KEY
max_output_tokens = 1k
[risk-taker]
aliases = task-force-one
description = knows sk-learn, tokens, the key to it all and --password
hf_repo = hf_user/ask-model-GGUF
hf_file = sky-model.gguf
ctx_size = 8k
"""
    assert list(parse(text, "m.ini", base=BASE).tiers) == ["risk-taker"]


def test_a_broken_tier_is_still_known_to_the_others() -> None:
    text = "[a]\nctx_size = bad\npath = x\naliases = z\n[b]\nctx_size = 8k\npath = y\nfallback = a, z\n"
    assert [one.message for one in problems(text)] == ["ctx_size: expected a size, got `bad`"]


def test_load_reads_the_file_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    raw = "\ufeff[a]\r\nctx_size = 8k ; naïve\r\npath = x.gguf\r\n"
    path.write_bytes(raw.encode())
    config = load(path)
    assert (config.text, config.source) == (raw, str(path))
    assert config.tiers["a"].model == GgufModel(path=tmp_path / "x.gguf")


def test_load_names_the_file_in_its_problems(tmp_path: Path) -> None:
    path = tmp_path / "models.ini"
    path.write_text("[a]\npath = x.gguf\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert str(caught.value) == f"{path}:1: [a] ctx_size: missing: every tier needs its window in tokens"


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    missing, directory, binary = tmp_path / "none.ini", tmp_path / "dir.ini", tmp_path / "utf16.ini"
    directory.mkdir()
    binary.write_bytes("[a]\n".encode("utf-16"))
    found = {}
    huge = tmp_path / "huge.ini"
    with huge.open("wb") as file:
        file.truncate(1 << 30)
    pipe = tmp_path / "pipe.ini"  # nobody writes to it: who opened it would wait
    if hasattr(os, "mkfifo"):
        os.mkfifo(pipe)
    else:
        pipe.mkdir()
    for path in (missing, directory, binary, huge, pipe, missing / "below", binary / "below"):
        with pytest.raises(LlmstackError) as caught:
            load(path)
        found[path] = (caught.value.message, caught.value.hint)
    assert found == {
        missing: (f"{missing}: no such file", "write one with `llmstack install`"),
        directory: (f"{directory} is not a plain file", "remove it"),
        huge: (f"{huge} is larger than 4 MiB", "remove it"),
        pipe: (f"{pipe} is not a plain file", "remove it"),
        binary: (f"{binary}: expected UTF-8 text, got byte 0xff at 0", "save the file again as UTF-8"),
        missing / "below": (f"{missing / 'below'}: no such file", "write one with `llmstack install`"),
        binary / "below": (
            f"cannot read {binary / 'below'}: Not a directory",
            "check the permissions of the file",
        ),
    }


def must_parse_or_complain(text: str) -> None:
    """Every text is a configuration of at least one tier, or a ConfigError that says why not."""
    config, found = None, []
    try:
        config = parse(text, "m.ini", base=BASE)
    except ConfigError as error:
        found = list(error.problems)
    assert all(one.message and 0 <= one.line <= text.count("\n") + 1 for one in found)
    assert found or (config is not None and config.tiers and config.text == text)


@given(st.text())
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    must_parse_or_complain(text)


KEYS = st.sampled_from(sorted({*schema.DEFAULT, *schema.ROUTING, *schema.TIER, "api_key", "other"}))
VALUES = st.sampled_from(
    sorted({line.partition(" = ")[2] for line in EVERYTHING.split("\n") if " = " in line})
) | st.text(max_size=12)
LINES = st.builds("{} = {}".format, KEYS, VALUES) | st.sampled_from(
    ["[DEFAULT]", "[ROUTING]", "[a]", "[b]", "[", "; x"]
)


@given(st.lists(LINES, max_size=30))
def test_lines_in_any_order_parse_or_are_a_config_error(lines: list[str]) -> None:
    must_parse_or_complain("\n".join(lines))


@given(st.integers(0, 400), VALUES)
def test_a_profile_with_one_value_changed_parses_or_is_a_config_error(number: int, value: str) -> None:
    lines = profile_text("default", demo_models=BASE).split("\n")
    number %= len(lines)
    lines[number] = lines[number].partition("=")[0] + "= " + value
    must_parse_or_complain("\n".join(lines))
