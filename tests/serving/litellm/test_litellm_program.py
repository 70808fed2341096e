from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.native import native_server

from llmstack.config.model import HostedModel
from llmstack.errors import LlmstackError
from llmstack.serving.litellm.program import environment, find_litellm, is_own, master_key, missing_keys

if TYPE_CHECKING:
    from pathlib import Path

OWN = (10101, 10103)


def test_the_program_is_found_by_its_variable_or_on_path(tmp_path: Path) -> None:
    program = native_server(tmp_path).rename(tmp_path / "litellm")
    assert find_litellm({"LITELLM_BIN": str(program)}) == program
    assert find_litellm({"PATH": str(tmp_path)}) is not None
    with pytest.raises(LlmstackError, match="LITELLM_BIN: expected a program"):
        find_litellm({"LITELLM_BIN": "/no/such", "PATH": str(tmp_path)})


def test_missing_key_variables_are_found() -> None:
    assert missing_keys(HostedModel("mistral", "x"), {"MISTRAL_API_KEY": " "}) == ["MISTRAL_API_KEY"]
    assert missing_keys(HostedModel("mistral", "x"), {"MISTRAL_API_KEY": "k"}) == []
    assert missing_keys(HostedModel("unheard_of", "x"), {}) == []


def test_its_environment_has_the_keys_and_no_address_of_this_stack() -> None:
    env = {
        "ANTHROPIC_API_KEY": "a",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:10101",
        "OPENAI_BASE_URL": "http://localhost:10103/v1",
        "OPENAI_API_BASE": "https://far.example/v1",
        "DATABASE_URL": "postgres://x",
        "LITELLM_MASTER_KEY": "theirs",
    }
    keyless = [HostedModel("openai", "m", base_url="http://far")]
    result = environment(env, master_key="ours", own_ports=OWN, models=keyless)
    assert result["LITELLM_MASTER_KEY"] == "ours"
    assert result["ANTHROPIC_API_KEY"] == "a"
    assert result["OPENAI_API_BASE"] == "https://far.example/v1"
    assert result["OPENAI_API_KEY"] == "none"
    assert result["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"
    assert not result.keys() & {"ANTHROPIC_BASE_URL", "OPENAI_BASE_URL", "DATABASE_URL"}


@pytest.mark.parametrize(
    ("url", "is_own_address"),
    [
        ("http://[::1]:10101/v1", True),
        ("http://127.0.0.1:10102", False),
        ("https://api.example:10101", False),
        ("http://localhost:99999", False),
        ("", False),
    ],
)
def test_addresses_of_this_stack_are_recognised(url: str, is_own_address: bool) -> None:  # noqa: FBT001
    assert is_own(url, OWN) is is_own_address


def test_the_master_key_is_created_once_and_only_the_owner_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "litellm.key"
    key = master_key(path)
    assert key.startswith("sk-")
    assert len(key) > 40
    path.chmod(0o644)
    assert master_key(path) == key
    assert path.stat().st_mode & 0o777 == 0o600
