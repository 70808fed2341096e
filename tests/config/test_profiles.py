from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.config import (
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
    enable_hosted,
    parse,
    profile_names,
    profile_text,
)
from llmstack.errors import LlmstackError, UsageError

MODELS = Path("/models")
HERETIC = "Mistral-Small-3.2-24B-Instruct-2506-ultra-uncensored-heretic"


def read_profile(name: str) -> str:
    return profile_text(name, demo_models=MODELS)


def parse_profile(text: str) -> StackConfig:
    return parse(text, "profile", base=Path("/project"))


def test_the_default_profile_has_the_reference_tiers() -> None:
    config = parse_profile(read_profile("default"))
    apple = EngineSettings(n_gpu_layers=999)
    coder, plan = "unsloth/Qwen3-Coder-Next-GGUF", "unsloth/Qwen3-30B-A3B-Instruct-2507-GGUF"
    mistral = f"mradermacher/{HERETIC}-i1-GGUF"
    expected = [
        Tier(
            name="code-fast",
            backend=BackendKind.GGUF,
            model=GgufModel(
                "Qwen/Qwen2.5-Coder-3B-Instruct-GGUF",
                "qwen2.5-coder-3b-instruct-q5_k_m.gguf",
                size_gb=2.5,
                quant="Q5_K_M",
            ),
            ctx_size=131072,
            kind="code",
            role=Role.FAST,
            sampler=Sampler(temp=0.2),
            engine=EngineSettings(n_gpu_layers=999, rope_scaling=RopeScaling("yarn", 4.0, 32768)),
        ),
        Tier(
            name="code-smart",
            backend=BackendKind.GGUF,
            model=GgufModel(coder, "Qwen3-Coder-Next-Q4_K_M.gguf", size_gb=45.0, quant="Q4_K_M"),
            next_model=GgufModel(coder, "Qwen3-Coder-Next-UD-Q4_K_XL.gguf", size_gb=50.0, quant="UD-Q4_K_XL"),
            ctx_size=65536,
            kind="code",
            role=Role.AGENT,
            aliases=("agent",),
            sampler=Sampler(0.5, 0.85, 20, 0.05, 1.05),
            engine=apple,
        ),
        Tier(
            name="plan",
            backend=BackendKind.GGUF,
            model=GgufModel(plan, "Qwen3-30B-A3B-Instruct-2507-Q4_K_M.gguf", size_gb=18.6, quant="Q4_K_M"),
            next_model=GgufModel(
                plan, "Qwen3-30B-A3B-Instruct-2507-Q5_K_M.gguf", size_gb=21.7, quant="Q5_K_M"
            ),
            ctx_size=131072,
            role=Role.PLAN,
            sampler=Sampler(0.7, 0.8, 20, 0.0),
            engine=apple,
        ),
        Tier(
            name="plan-uncensored",
            backend=BackendKind.GGUF,
            model=GgufModel(mistral, f"{HERETIC}.i1-Q4_K_M.gguf", size_gb=13.0, quant="i1-Q4_K_M"),
            next_model=GgufModel(mistral, f"{HERETIC}.i1-Q6_K.gguf", size_gb=20.0, quant="i1-Q6_K"),
            ctx_size=131072,
            role=Role.PLAN_UNCENSORED,
            aliases=("nofilter",),
            sampler=Sampler(0.85, 0.95, 50, 0.05),
            engine=apple,
        ),
    ]
    assert [checked_fields(tier) for tier in config.tiers.values()] == [
        checked_fields(tier) for tier in expected
    ]
    assert (config.settings, config.routing) == (Settings(), Routing())


def checked_fields(tier: Tier) -> list[object]:
    """Return the fields of a tier that the tests compare: all but wording, line and answer length."""
    ignored = {"description", "line", "max_output_tokens"}
    return [getattr(tier, name) for name in Tier.__dataclass_fields__ if name not in ignored]


def switched_off_tiers(text: str) -> str:
    """Return the tiers of a profile that are switched off, as the text of a models.ini."""
    tiers = text[text.index("[code-fast]") :]
    return "\n".join(line[1:] for line in tiers.split("\n") if line.startswith(";") and line[1:2].strip())


def test_each_tier_of_the_default_profile_has_a_hosted_alternative() -> None:
    text = read_profile("default")
    hosted = parse_profile(switched_off_tiers(text))
    assert {
        tier.name: (tier.backend, tier.model.label, tier.role, tier.aliases, tier.ctx_size, tier.sampler)
        for tier in hosted.tiers.values()
    } == {
        "code-fast": (
            BackendKind.LITELLM,
            "anthropic/claude-haiku-4-5-20251001",
            Role.FAST,
            (),
            200000,
            Sampler(temp=0.2),
        ),
        "code-smart": (
            BackendKind.LITELLM,
            "anthropic/claude-sonnet-4-6",
            Role.AGENT,
            ("agent",),
            200000,
            Sampler(temp=0.5),
        ),
        "plan": (BackendKind.LITELLM, "anthropic/claude-opus-4-6", Role.PLAN, (), 200000, Sampler()),
        "plan-uncensored": (
            BackendKind.LITELLM,
            "mistral/mistral-small-latest",
            Role.PLAN_UNCENSORED,
            ("nofilter",),
            131072,
            Sampler(temp=0.85),
        ),
        "code-ultra": (BackendKind.LITELLM, "anthropic/claude-opus-4-6", Role.ULTRA, (), 200000, Sampler()),
    }


def test_enable_hosted_switches_on_only_the_ultra_tier() -> None:
    text = read_profile("default")
    enabled = enable_hosted(text)
    changed = [
        (old, new) for old, new in zip(text.split("\n"), enabled.split("\n"), strict=True) if old != new
    ]
    assert [old for old, _ in changed] == [f";{new}" for _, new in changed]
    assert changed[0] == (";[code-ultra]", "[code-ultra]")
    before, after = parse_profile(text), parse_profile(enabled)
    ultra = after.tiers["code-ultra"]
    assert list(after.tiers.values()) == [*before.tiers.values(), ultra]
    assert (ultra.role, ultra.model, ultra.sampler) == (
        Role.ULTRA,
        HostedModel("anthropic", "claude-opus-4-6"),
        Sampler(),
    )
    assert enable_hosted(enabled) == enabled
    assert enable_hosted(text.replace("\n", "\r\n")) == enabled.replace("\n", "\r\n")


@pytest.mark.parametrize("text", ["", "[a]\n", "; >>> hosted\n;[a]\n", "; <<< hosted\n;[a]\n; >>> hosted\n"])
def test_enable_hosted_without_the_markers_is_an_error(text: str) -> None:
    with pytest.raises(LlmstackError, match="no lines between `; >>> hosted` and `; <<< hosted`"):
        enable_hosted(text)


def test_the_demo_profile_has_the_tiny_models() -> None:
    config = parse_profile(read_profile("demo"))
    assert {
        tier.name: (tier.role, tier.aliases, tier.model, tier.ctx_size, tier.max_output_tokens, tier.engine)
        for tier in config.tiers.values()
    } == {
        name: (
            role,
            aliases,
            GgufModel(path=MODELS / f"{name}.gguf"),
            131072,
            1024,
            EngineSettings(parallel=2, cache_ram_gb=0.06, cache_type_k="f16", cache_type_v="f16"),
        )
        for name, role, aliases in [
            ("code-fast", Role.FAST, ("fast",)),
            ("code-smart", Role.AGENT, ("agent",)),
            ("code-ultra", Role.ULTRA, ()),
            ("plan", Role.PLAN, ()),
            ("plan-uncensored", Role.PLAN_UNCENSORED, ("nofilter",)),
        ]
    }
    assert config.routing == Routing(high_fidelity_ceiling=3500, mid_fidelity_ceiling=5500)


def test_the_directory_of_the_demo_models_may_have_an_odd_name() -> None:
    directory = Path("/home/some one;here/{x} = 'y' #z")
    config = parse(profile_text("demo", demo_models=directory), "demo", base=Path("/project"))
    assert config.tiers["plan"].model == GgufModel(path=directory / "plan.gguf")


def test_a_directory_that_an_ini_file_cannot_name_is_refused() -> None:
    with pytest.raises(LlmstackError, match="cannot name the directory `/a ;b`"):
        profile_text("demo", demo_models=Path("/a ;b"))
    assert profile_text("default", demo_models=Path("/a ;b")) == read_profile("default")


def test_an_unknown_profile_is_a_usage_error() -> None:
    assert profile_names() == ["16gb", "32gb", "64gb", "8gb", "default", "demo"]
    with pytest.raises(UsageError) as caught:
        read_profile("defualt")
    assert (caught.value.message, caught.value.hint) == (
        "no profile called `defualt`; there are: 16gb, 32gb, 64gb, 8gb, default, demo",
        "did you mean `default`?",
    )
    with pytest.raises(UsageError) as caught:
        read_profile("../demo")
    assert (
        caught.value.message == "no profile called `../demo`; there are: 16gb, 32gb, 64gb, 8gb, default, demo"
    )
