"""Address, key and headers of a model: every rule of precedence, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from llmstack.config.model import DIRECT_PROVIDERS, LOCAL_SERVERS
from llmstack.errors import LlmstackError
from llmstack.providers.catalog import PROVIDERS
from llmstack.providers.errors import MissingKeyError, OwnAddressError, UnknownModelError
from llmstack.providers.model_aliases import load_aliases, load_bundled_aliases
from llmstack.providers.resolve import Endpoint, is_same_listener, resolve

if TYPE_CHECKING:
    from pathlib import Path

ALIASES = load_bundled_aliases()
OWN_ADDRESSES = ("http://127.0.0.1:10101",)
KEYS = {f"{name}_API_KEY": "k" for name in ("ANTHROPIC", "OPENAI", "GOOGLE", "GEMINI", "MISTRAL")}


def endpoint_of(name: str, env: dict[str, str] | None = None, base_url: str | None = None) -> Endpoint:
    return resolve(name, {**KEYS, **(env or {})}, ALIASES, base_url=base_url, own_addresses=OWN_ADDRESSES)


def test_every_provider_of_models_ini_is_supported() -> None:
    assert set(LOCAL_SERVERS + DIRECT_PROVIDERS) <= PROVIDERS.keys()


@pytest.mark.parametrize(
    ("name", "root"),
    [
        ("ollama/llama3.1:8b", "http://localhost:11434/v1"),
        ("vllm/meta-llama/Llama-3.1-8B-Instruct", "http://localhost:8000/v1"),
        ("lm_studio/google/gemma-3-4b", "http://localhost:1234/v1"),
        ("llamacpp/llama-3.1", "http://localhost:8080/v1"),
        ("devstral_local", "http://127.0.0.1:8080/v1"),
        ("anthropic_ollama/gpt-oss:120b-cloud", "http://localhost:11434/v1"),
        ("anthropic/haiku", "https://api.anthropic.com/v1"),
        ("openai/gpt-5.2", "https://api.openai.com/v1"),
        ("google/flash", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("gemini/gemini-3-pro", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("google_ai_studio", "https://generativelanguage.googleapis.com/v1beta/openai"),
        ("mistral/small", "https://api.mistral.ai/v1"),
    ],
)
def test_a_provider_has_a_default_address(name: str, root: str) -> None:
    assert (endpoint_of(name).root, endpoint_of(name).address_source) == (root, "the default")


TWO_ADDRESSES = {"OLLAMA_BASE_URL": "http://o:1", "LOCAL_LLM_BASE_URL": "http://l:2"}


@pytest.mark.parametrize(
    ("name", "env", "base_url", "root", "source"),
    [
        ("ollama/x", TWO_ADDRESSES, "http://t:3", "http://t:3/v1", "base_url"),
        ("ollama/x", TWO_ADDRESSES, None, "http://o:1/v1", "OLLAMA_BASE_URL"),
        ("ollama/x", {**TWO_ADDRESSES, "OLLAMA_BASE_URL": ""}, None, "http://l:2/v1", "LOCAL_LLM_BASE_URL"),
        ("ollama/x", {**TWO_ADDRESSES, "OLLAMA_BASE_URL": " "}, None, "http://l:2/v1", "LOCAL_LLM_BASE_URL"),
        ("ollama/x", {"LOCAL_LLM_BASE_URL": ""}, None, "http://localhost:11434/v1", "the default"),
        ("vllm/x", TWO_ADDRESSES, None, "http://l:2/v1", "LOCAL_LLM_BASE_URL"),
        ("lm_studio/x", {"LMSTUDIO_BASE_URL": "http://m:4/v1/"}, None, "http://m:4/v1", "LMSTUDIO_BASE_URL"),
        (
            "lm_studio/x",
            {"LM_STUDIO_BASE_URL": "http://m:4"},
            None,
            "http://localhost:1234/v1",
            "the default",
        ),
        ("llamacpp/x", {"OPENAI_BASE_URL": "http://p:5"}, None, "http://localhost:8080/v1", "the default"),
        ("openai/x", {"OPENAI_BASE_URL": "http://p:5/v1"}, None, "http://p:5/v1", "OPENAI_BASE_URL"),
        ("openai/x", TWO_ADDRESSES, None, "https://api.openai.com/v1", "the default"),
        (
            "openai/x",
            {},
            "https://open.bigmodel.cn/api/paas/v4",
            "https://open.bigmodel.cn/api/paas/v4",
            "base_url",
        ),
        ("google/x", {"GOOGLE_BASE_URL": "http://g:6"}, None, "http://g:6/v1beta/openai", "GOOGLE_BASE_URL"),
        (
            "anthropic_ollama",
            {"ANTHROPIC_BASE_URL": "http://a:7"},
            None,
            "http://a:7/v1",
            "ANTHROPIC_BASE_URL",
        ),
    ],
)
def test_the_address_with_the_highest_precedence_wins(
    name: str, env: dict[str, str], base_url: str | None, root: str, source: str
) -> None:
    assert (endpoint_of(name, env, base_url).root, endpoint_of(name, env, base_url).address_source) == (
        root,
        source,
    )


@pytest.mark.parametrize(
    ("name", "env", "headers"),
    [
        ("ollama/x", {"OLLAMA_API_KEY": "o", "LOCAL_LLM_API_KEY": "l"}, {"authorization": "Bearer o"}),
        ("ollama/x", {"OLLAMA_API_KEY": "", "LOCAL_LLM_API_KEY": "l"}, {"authorization": "Bearer l"}),
        ("ollama/x", {"OPENAI_API_KEY": "p"}, {"authorization": "Bearer none"}),
        ("lm_studio/x", {"LMSTUDIO_API_KEY": "m"}, {"authorization": "Bearer m"}),
        ("anthropic_ollama", {"ANTHROPIC_AUTH_TOKEN": "t"}, {"authorization": "Bearer t"}),
        ("anthropic_ollama", {}, {"authorization": "Bearer none"}),
        ("anthropic/haiku", {"ANTHROPIC_API_KEY": "a", "ANTHROPIC_AUTH_TOKEN": "t"}, {"x-api-key": "a"}),
        ("google/x", {"GOOGLE_API_KEY": "", "GEMINI_API_KEY": "g"}, {"authorization": "Bearer g"}),
        ("openai/x", {"OPENAI_API_KEY": "", "OPENAI_BASE_URL": "http://p"}, {"authorization": "Bearer none"}),
    ],
)
def test_the_key_with_the_highest_precedence_wins(
    name: str, env: dict[str, str], headers: dict[str, str]
) -> None:
    assert endpoint_of(name, env).headers == headers


def test_a_missing_key_is_reported_with_its_variables() -> None:
    with pytest.raises(MissingKeyError) as raised:
        endpoint_of("gemini/x", {"GEMINI_API_KEY": "", "GOOGLE_API_KEY": ""})
    assert raised.value.message == "gemini needs a key, and GEMINI_API_KEY (or GOOGLE_API_KEY) is not set"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ollama/", "`ollama/` names no model"),
        ("ollama/ ", "`ollama/ ` names no model"),
        ("ollama", "`ollama` has no default model"),
        ("openai-compat/x", "`openai-compat/` is reserved"),
        ("openai-compat/", "`openai-compat/` is reserved"),
        ("olama/x", "no provider is called `olama`"),
        ("", "no provider is called ``"),
        ("/x", "no provider is called ``"),
    ],
)
def test_an_invalid_name_is_rejected(name: str, message: str) -> None:
    with pytest.raises(UnknownModelError) as raised:
        endpoint_of(name)
    assert raised.value.message == message


@pytest.mark.parametrize(
    "value", ["localhost:1", "ftp://x", "http://", "http://u:secret@h", "http://h:99999"]
)
def test_an_invalid_address_is_reported_without_its_value(value: str) -> None:
    with pytest.raises(UnknownModelError, match=r"^OLLAMA_BASE_URL: expected an address such as") as raised:
        endpoint_of("ollama/x", {"OLLAMA_BASE_URL": value})
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "own_address",
    [
        "http://127.0.0.1:10101",
        "http://localhost:10101/v1",
        "http://LOCALHOST.:10101",
        "http://[::1]:10101",
        "http://[::ffff:127.0.0.1]:10101",
        "http://0.0.0.0:10101",
        "http://127.8.9.1:10101/v1",
    ],
)
@pytest.mark.parametrize(
    ("name", "variable"), [("anthropic/haiku", "ANTHROPIC_BASE_URL"), ("openai/x", "OPENAI_BASE_URL")]
)
def test_the_routers_own_address_is_rejected(own_address: str, name: str, variable: str) -> None:
    with pytest.raises(OwnAddressError) as raised:
        endpoint_of(name, {variable: own_address})
    assert variable in raised.value.message


def test_another_port_or_machine_is_another_listener() -> None:
    assert not is_same_listener("http://localhost:10102", OWN_ADDRESSES[0])
    assert not is_same_listener("http://192.168.1.2:10101", OWN_ADDRESSES[0])
    assert is_same_listener("http://box.lan/v1", "http://box.lan:80")


@pytest.mark.parametrize(
    ("name", "full_name"),
    [
        ("anthropic/haiku", "claude-haiku-4-5-20251001"),
        ("anthropic/sonnet", "claude-sonnet-4-6"),
        ("anthropic/opus", "claude-opus-4-6"),
        ("anthropic", "claude-haiku-4-5-20251001"),
        ("anthropic/claude-next", "claude-next"),
        ("mistral/small", "mistral-medium-latest"),
        ("mistral/medium", "mistral-large-2411"),
        ("mistral/mini", "ministral-3b"),
        ("mistral/code", "codestral-2508"),
        ("mistral/devstral", "devstral-2"),
        ("gemini/flash", "gemini-flash-latest"),
        ("anthropic_ollama", "minimax-m2.5:cloud"),
        ("devstral_local", "devstral"),
    ],
)
def test_a_short_name_is_resolved_to_the_full_name(name: str, full_name: str) -> None:
    assert endpoint_of(name).model == full_name


def test_no_key_is_in_the_repr() -> None:
    endpoint = endpoint_of("anthropic/haiku", {"ANTHROPIC_API_KEY": "sk-planted"})
    assert "planted" not in repr(endpoint)
    assert endpoint.secrets == ("sk-planted",)
    assert endpoint_of("ollama/x").secrets == ()


@pytest.mark.parametrize(
    ("name", "body", "fitted"),
    [
        ("anthropic/opus", {"temperature": 0.2, "top_p": 0.9, "max_tokens": 5}, {"max_tokens": 5}),
        ("anthropic/claude-sonnet-5-5", {"temperature": 0.2, "top_k": 9}, {}),
        ("anthropic/claude-fable-5", {"temperature": 0.2, "effort": 9}, {"effort": 9}),
        ("anthropic/sonnet", {"top_p": 0.9, "temperature": 0.2}, {"temperature": 0.2}),
        ("anthropic/sonnet", {"top_p": 0.9, "temperature": None}, {"top_p": 0.9, "temperature": None}),
        ("anthropic/sonnet", {"temperature": 1.7}, {"temperature": 1.0}),
        ("openai/gpt-5.2", {"max_tokens": 5, "temperature": 1}, {"max_completion_tokens": 5}),
        ("openai/gpt-4o", {"max_tokens": 5, "temperature": 1}, {"max_tokens": 5, "temperature": 1}),
        ("mistral/small", {"stream_options": {}, "seed": 1, "model": "m"}, {"random_seed": 1, "model": "m"}),
        ("mistral/small", {"max_completion_tokens": 5}, {"max_tokens": 5}),
        ("google/flash", {"max_completion_tokens": 5, "seed": 1, "n": 2}, {"max_tokens": 5, "n": 2}),
        ("ollama/x", {"reasoning_effort": "high", "temperature": 1}, {"temperature": 1}),
        ("ollama/x", {"reasoning": {"effort": "low"}, "thinking": {}}, {}),
        ("vllm/x", {"output_config": {"effort": "low", "format": {}}}, {"output_config": {"format": {}}}),
    ],
)
def test_parameters_that_a_model_refuses_are_left_out(
    name: str, body: dict[str, object], fitted: dict[str, object]
) -> None:
    assert endpoint_of(name).limits.fit(body) == fitted


def test_a_body_that_fits_is_not_copied() -> None:
    body = b'{"model": "m",  "messages": [] }'
    assert endpoint_of("mistral/small").limits.fit_bytes(body) is body
    assert (
        endpoint_of("mistral/small").limits.fit_bytes(b'{"model":"\xc3\xa4","n_ctx":1}')
        == b'{"model": "\xc3\xa4"}'
    )
    too_long = b'{"n": ' + b"1" * 5000 + b"}"
    assert endpoint_of("mistral/small").limits.fit_bytes(too_long) is too_long


def test_the_users_file_is_merged_over_the_bundled_one(tmp_path: Path) -> None:
    (tmp_path / "models.toml").write_text(
        '[anthropic]\ndefault = "opus"\nnames = { opus = "claude-opus-5" }\n'
        '[[anthropic.limits]]\nmodels = ["claude-haiku-*"]\nrefuses = ["top_k"]\n'
    )
    aliases = load_aliases(tmp_path)
    assert aliases.default_model("anthropic") == "claude-opus-5"
    assert aliases.full_name("anthropic", "sonnet") == "claude-sonnet-4-6"
    haiku = aliases.limits_for("anthropic", "claude-haiku-4-9")
    assert haiku.fit({"top_k": 1, "temperature": 1, "top_p": 1}) == {"temperature": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[anthropic", "not TOML"),
        ("[antropic]", r"\[antropic\] no such provider"),
        ("[openai]\nmodels = 1", r"\[openai\] expected default, limits, names, got models"),
        ('[openai]\n[[openai.limits]]\nmodels = "x"', "limits: expected `models = "),
        ('[openai]\n[[openai.limits]]\nmodels = ["x"]\nrefuse = ["y"]', "limits: unknown key `refuse`"),
        (
            '[openai]\n[[openai.limits]]\nmodels = ["x"]\nhighest = { t = "y" }',
            "limits: highest: expected num",
        ),
    ],
)
def test_an_invalid_user_file_is_reported_with_its_path(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(LlmstackError, match=message) as raised:
        load_aliases(tmp_path)
    assert str(tmp_path) in raised.value.message
