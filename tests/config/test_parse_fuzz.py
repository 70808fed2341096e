"""Any text either parses or is an error with its problems."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.parsing import BASE, EVERYTHING

from llmstack.config import (
    parse,
    profile_text,
    schema,
)
from llmstack.errors import ConfigError


def assert_parses_or_reports_problems(text: str) -> None:
    """Assert that a text parses into at least one tier, or raises ConfigError with problems."""
    config, problems = None, []
    try:
        config = parse(text, "m.ini", base=BASE)
    except ConfigError as error:
        problems = list(error.problems)
    assert all(problem.message and 0 <= problem.line <= text.count("\n") + 1 for problem in problems)
    assert problems or (config is not None and config.tiers and config.text == text)


@given(st.text())
def test_any_text_parses_or_is_a_config_error(text: str) -> None:
    assert_parses_or_reports_problems(text)


KEYS = st.sampled_from(sorted({*schema.DEFAULT, *schema.ROUTING, *schema.TIER, "api_key", "other"}))
VALUES = st.sampled_from(
    sorted({line.partition(" = ")[2] for line in EVERYTHING.split("\n") if " = " in line})
) | st.text(max_size=12)
LINES = st.builds("{} = {}".format, KEYS, VALUES) | st.sampled_from(
    ["[DEFAULT]", "[ROUTING]", "[a]", "[b]", "[", "; x"]
)


@given(st.lists(LINES, max_size=30))
def test_lines_in_any_order_parse_or_are_a_config_error(lines: list[str]) -> None:
    assert_parses_or_reports_problems("\n".join(lines))


@given(st.integers(0, 400), VALUES)
def test_a_profile_with_one_value_changed_parses_or_is_a_config_error(number: int, value: str) -> None:
    lines = profile_text("default", demo_models=BASE).split("\n")
    number %= len(lines)
    lines[number] = lines[number].partition("=")[0] + "= " + value
    assert_parses_or_reports_problems("\n".join(lines))
