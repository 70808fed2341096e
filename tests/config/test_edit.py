from __future__ import annotations

import pytest

from llmstack.config.edit import remove_key, set_value
from llmstack.errors import LlmstackError

TEXT = """; mine
[DEFAULT]
host = 127.0.0.1   ; loopback

[plan]
hf_file      = a.gguf   ; the good one
hf_file_next = b.gguf
"""


def test_a_value_is_changed_in_place_and_its_comment_stays() -> None:
    assert set_value(TEXT, "plan", "hf_file", "b.gguf") == TEXT.replace("a.gguf ", "b.gguf ")


def test_a_missing_key_is_added_below_the_header() -> None:
    assert set_value(TEXT, "plan", "quant", "Q4") == TEXT.replace("[plan]\n", "[plan]\nquant = Q4\n")


def test_line_ends_are_preserved() -> None:
    text = TEXT.replace("\n", "\r\n")
    edited = set_value(text, "plan", "quant", "Q4")
    assert edited == text.replace("[plan]\r\n", "[plan]\r\nquant = Q4\r\n")
    assert remove_key(edited, "plan", "quant") == text


def test_removing_a_key_removes_its_line() -> None:
    assert remove_key(TEXT, "plan", "hf_file_next") == TEXT.replace("hf_file_next = b.gguf\n", "")
    assert remove_key(TEXT, "plan", "quant") == TEXT


@pytest.mark.parametrize("edit", [lambda: set_value(TEXT, "x", "a", "b"), lambda: remove_key(TEXT, "x", "a")])
def test_a_missing_section_is_an_error(edit: object) -> None:
    assert callable(edit)
    with pytest.raises(LlmstackError, match=r"models.ini has no section \[x\]"):
        edit()
