from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmstack.policy.facts import HARNESS_TAGS, tokens, without_harness


@pytest.mark.parametrize(
    ("characters", "expected"), [(0, 0), (3, 0), (4, 1), (48_003, 12_000), (48_004, 12_001)]
)
def test_four_characters_are_a_token(characters: int, expected: int) -> None:
    assert tokens(characters) == expected


@pytest.mark.parametrize(
    ("text", "left"),
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
def test_harness_text_is_left_out(text: str, left: str) -> None:
    assert without_harness(text) == left


@given(st.lists(st.sampled_from(["<", "</", *HARNESS_TAGS, ">", " ", "word"]), max_size=40).map("".join))
def test_nothing_is_added(text: str) -> None:
    left = without_harness(text)
    remaining = iter(text)
    assert all(char in remaining for char in left), "what is left is a subsequence"


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
def test_a_million_characters_take_no_time(text: str) -> None:
    began = time.process_time()
    without_harness(text)
    assert time.process_time() - began < 1.0


def test_the_rules_that_codex_sends_as_a_message_are_no_words_of_the_human() -> None:
    rules = "# AGENTS.md instructions for /repo\n\n<INSTRUCTIONS>\nultra: always\n</INSTRUCTIONS>"
    assert without_harness(rules) == ""
    assert without_harness(f"{rules}\n<environment_context>x</environment_context>\nhi") == "hi"
    assert without_harness("# AGENTS.md is <short>") == "# AGENTS.md is <short>"
