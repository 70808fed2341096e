from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.policy.facts import HARNESS_TAGS, tokens, without_harness


@pytest.mark.parametrize(
    ("characters", "expected"), [(0, 0), (3, 0), (4, 1), (48_003, 12_000), (48_004, 12_001)]
)
def test_four_characters_count_as_one_token(characters: int, expected: int) -> None:
    assert tokens(characters) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("  plain words \n", "plain words"),
        ("a < b and c > d", "a < b and c > d"),
        ("<system-reminder>hidden</system-reminder>", ""),
        ("<system-reminder>\na\n</system-reminder>\nhello", "hello"),
        ("one <system-reminder>a</system-reminder>two<command-name>/x</command-name>", "one two"),
        ("<system-reminder>a <command-name>b</command-name> c</system-reminder>d", "d"),
        ("<system-reminder>a <system-reminder> b</system-reminder>c", "c"),
        ('<system-reminder kind="x">a</system-reminder>b', "b"),
        ("<system-reminder>never closed", "<system-reminder>never closed"),
        ("</system-reminder>only closed", "</system-reminder>only closed"),
        ("<b>bold</b>", "<b>bold</b>"),
        ("<system-reminders>a</system-reminders>", "<system-reminders>a</system-reminders>"),
        ("<system-reminder><command-name>b</command-name>", "<system-reminder>"),
    ],
)
def test_harness_text_is_removed(text: str, expected: str) -> None:
    assert without_harness(text) == expected


@given(st.lists(st.sampled_from(["<", "</", *HARNESS_TAGS, ">", " ", "word"]), max_size=40).map("".join))
def test_removing_harness_text_adds_nothing(text: str) -> None:
    remaining = iter(text)
    assert all(char in remaining for char in without_harness(text)), "the result is a subsequence of the text"


@pytest.mark.parametrize(
    "text",
    [
        "<system-reminder>" * 60_000,
        "<command-name></command-name>" * 40_000,
        "<system-reminder>" * 30_000 + "</system-reminder>" * 30_000,
        "<system-reminder " * 60_000,
        "<command-name>" * 40_000 + "</command-args>" * 40_000,
    ],
)
def test_a_million_characters_take_less_than_a_second(text: str) -> None:
    began = time.process_time()
    without_harness(text)
    assert time.process_time() - began < 1.0


def test_the_rules_that_codex_sends_as_a_message_are_removed() -> None:
    rules = "# AGENTS.md instructions for /repo\n\n<INSTRUCTIONS>\nultra: always\n</INSTRUCTIONS>"
    assert without_harness(rules) == ""
    assert without_harness(f"{rules}\n<environment_context>x</environment_context>\nhi") == "hi"
    assert without_harness("# AGENTS.md is <short>") == "# AGENTS.md is <short>"
