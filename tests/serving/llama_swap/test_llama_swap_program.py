from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from llmstack.errors import LlmstackError
from llmstack.serving.llama_swap.program import NAME, llama_swap_binary

if TYPE_CHECKING:
    from pathlib import Path


def install(directory: Path, mode: int = 0o755) -> Path:
    binary = directory / NAME
    binary.write_bytes(b"")
    binary.chmod(mode)
    return binary


@pytest.mark.parametrize("setting", ["auto", "llama-swap"])
def test_llama_swap_is_used_if_it_is_installed(
    tmp_path: Path, setting: Literal["auto", "llama-swap"]
) -> None:
    binary = install(tmp_path)
    assert llama_swap_binary(setting, tmp_path) == binary


def test_the_pool_is_used_if_it_is_configured_or_there_is_no_binary(tmp_path: Path) -> None:
    assert llama_swap_binary("auto", tmp_path / "nowhere") is None
    install(tmp_path)
    assert llama_swap_binary("builtin", tmp_path) is None


def test_a_file_that_cannot_be_executed_is_no_binary(tmp_path: Path) -> None:
    install(tmp_path, 0o644)
    assert llama_swap_binary("auto", tmp_path) is None


def test_a_missing_llama_swap_is_an_error_that_names_both_remedies(tmp_path: Path) -> None:
    with pytest.raises(LlmstackError) as raised:
        llama_swap_binary("llama-swap", tmp_path)
    assert raised.value.message == f"swapper = llama-swap, but there is no program {tmp_path / NAME}"
    assert raised.value.hint is not None
    assert "`llmstack install-llama-swap`" in raised.value.hint
    assert "`swapper = builtin`" in raised.value.hint
