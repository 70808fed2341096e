"""Any text is a configuration, or an error that says why not."""

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
