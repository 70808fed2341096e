from __future__ import annotations

import pytest

from llmstack.config.ini import IniEntry, Section, scan
from llmstack.errors import Problem

EVERY_CONSTRUCT = """\
\ufeff; a comment
# another one
   ; indented

[DEFAULT]   ; shared
Host=127.0.0.1
  ultra_triggers\t=  [ultra], #1, a;b   ; the rest is a comment ; all of it
[ code-fast ]
equation = a = b
empty =
commented_out = ; nothing
"""


def test_every_construct_of_the_syntax_is_read() -> None:
    expected = (
        Section(
            "DEFAULT",
            5,
            (
                IniEntry("DEFAULT", "host", "127.0.0.1", 6, (5, 14)),
                IniEntry("DEFAULT", "ultra_triggers", "[ultra], #1, a;b", 7, (20, 36)),
            ),
        ),
        Section(
            "code-fast",
            8,
            (
                IniEntry("code-fast", "equation", "a = b", 9, (11, 16)),
                IniEntry("code-fast", "empty", "", 10, (7, 7)),
                IniEntry("code-fast", "commented_out", "", 11, (15, 15)),
            ),
        ),
    )
    result = scan(EVERY_CONSTRUCT)
    assert (result.sections, result.problems) == (expected, ())
    assert scan(EVERY_CONSTRUCT.replace("\n", "\r\n")) == result


def test_a_span_is_the_position_of_the_value_in_its_line() -> None:
    text = "[a]\r\n  key =  the value  ; why\r\n"
    section = scan(text).find("a")
    assert section is not None
    entry = section.find("key")
    assert entry is not None
    start, end = entry.span
    line = text.split("\n")[entry.line - 1]
    assert line[:start] + "new" + line[end:] == "  key =  new  ; why\r"


def test_finding_a_missing_section_or_key_returns_none() -> None:
    result = scan("[a]\nkey = 1\n")
    assert result.find("b") is None
    assert result.sections[0].find("other") is None


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (
            "[a]\nkey = 1\n   sk-a-secret-pasted-on-its-own\n",
            [Problem(3, "a", "expected `key = value`, `[section]` or `; comment`")],
        ),
        ("[a]\ntwo words = 1\n", [Problem(2, "a", "expected `key = value`, `[section]` or `; comment`")]),
        ("[a]\n= 1\n", [Problem(2, "a", "expected `key = value`, `[section]` or `; comment`")]),
        ("host = 1\n[a]\n", [Problem(1, "", "host: stands before any section")]),
        (
            "[a\nkey = 1\n[b]\nkey = 1\n",
            [Problem(1, "", "expected a section header such as `[code-fast]`, alone on its line")],
        ),
        ("[]\n", [Problem(1, "", "expected a section header such as `[code-fast]`, alone on its line")]),
        ("[ ]\n", [Problem(1, "", "expected a section header such as `[code-fast]`, alone on its line")]),
        ("[a] b\n", [Problem(1, "", "expected a section header such as `[code-fast]`, alone on its line")]),
        (
            "[a]\nkey = 1\nother = 2\nKEY = 3\n",
            [Problem(4, "a", "key: written twice, on lines 2 and 4", "keep one of them")],
        ),
        (
            "[a]\nkey = 1\n[b]\n[a]\nkey = 1\n",
            [Problem(4, "a", "section written twice, on lines 1 and 4", "merge the two, or rename one")],
        ),
        (
            "[a]\nkey = 1\x1b[2J\n",
            [Problem(2, "a", "the line holds an invisible character (U+001B)", "type the line again")],
        ),
        (
            "[a\u202e]\n",
            [Problem(1, "", "the line holds an invisible character (U+202E)", "type the line again")],
        ),
    ],
)
def test_syntax_errors_are_reported_with_line_and_section(text: str, problems: list[Problem]) -> None:
    assert list(scan(text).problems) == problems


def test_entries_below_an_invalid_header_do_not_belong_to_the_section_above() -> None:
    assert scan("[a]\nkey = 1\n[b\nkey = 2\n").sections == (
        Section("a", 1, (IniEntry("a", "key", "1", 2, (6, 7)),)),
    )


def test_duplicate_keys_and_sections_are_kept() -> None:
    result = scan("[a]\nkey = 1\nkey = 2\n[a]\nkey = 3\n")
    assert [[entry.value for entry in section.entries] for section in result.sections] == [["1", "2"], ["3"]]
    assert result.find("a") == result.sections[0]
