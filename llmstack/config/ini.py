"""Scan the INI syntax of models.ini.

configparser of the standard library reports no line numbers, stops at the first mistake and reads a mistyped
line as a continuation of the line above.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from llmstack.errors import Problem

_COMMENT = re.compile(r"\s;")
_HEADER = re.compile(r"\[([^\[\]]+)\]")
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
# Unicode categories of control and formatting characters, which must not get into commands and terminals.
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class IniEntry:
    """One `key = value`.

    Attributes:
        key: lower case.
        value: without comment and surrounding blanks; may be empty.
        line: 1-based.
        span: start and end of the value in its line, for edits that keep the rest of the line.
    """

    section: str
    key: str
    value: str
    line: int
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Section:
    """One `[name]` and its entries in file order; a duplicate key has two entries."""

    name: str
    line: int
    entries: tuple[IniEntry, ...] = ()

    def find(self, key: str) -> IniEntry | None:
        """Return the first entry with this key, or None."""
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True, slots=True)
class Scan:
    """The sections of a text and its syntax errors; a duplicate section is listed twice."""

    sections: tuple[Section, ...]
    problems: tuple[Problem, ...]

    def find(self, name: str) -> Section | None:
        """Return the first section with this name, or None."""
        return next((section for section in self.sections if section.name == name), None)


@dataclass(slots=True)
class _Block:
    """A section while it is read; the entries below an invalid header belong to no section."""

    name: str
    line: int
    valid: bool = True
    entries: list[IniEntry] = field(default_factory=list)
    first_lines: dict[str, int] = field(default_factory=dict)


def scan(text: str) -> Scan:
    """Read a text into sections and entries, and collect its syntax errors."""
    problems: list[Problem] = []
    blocks = [_Block("", 0, valid=False)]
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        content = _strip_comment(line)
        if not content:
            continue
        block = blocks[-1]
        if any(unicodedata.category(char) in _INVISIBLE for char in content if char != "\t"):
            problems.append(_invisible_problem(content, block.name, number))
        elif content.lstrip().startswith("["):
            blocks.append(_parse_header(content.strip(), number))
            problems += _header_problems(blocks)
        elif (entry := _parse_entry(content, block.name, number)) is None:
            # The line is not shown, since it may be a secret that was pasted in the wrong place.
            problems.append(Problem(number, block.name, "expected `key = value`, `[section]` or `; comment`"))
        elif block.valid:
            problems += _duplicate_key_problems(entry, block)
            block.entries.append(entry)
        elif not block.line:
            problems.append(Problem(number, "", f"{entry.key}: stands before any section"))
    return Scan(
        tuple(Section(block.name, block.line, tuple(block.entries)) for block in blocks if block.valid),
        tuple(problems),
    )


def _strip_comment(line: str) -> str:
    """Return the line without its comment and trailing blanks; columns do not move."""
    line = line.removesuffix("\r")
    if line.lstrip().startswith((";", "#")):
        return ""
    comment = _COMMENT.search(line)
    return (line[: comment.start()] if comment else line).rstrip()


def _invisible_problem(content: str, section: str, number: int) -> Problem:
    code = next(ord(char) for char in content if char != "\t" and unicodedata.category(char) in _INVISIBLE)
    return Problem(
        number, section, f"the line holds an invisible character (U+{code:04X})", "type the line again"
    )


def _parse_header(content: str, number: int) -> _Block:
    match = _HEADER.fullmatch(content)
    name = match[1].strip() if match else ""
    return _Block(name, number, valid=bool(name))


def _header_problems(blocks: list[_Block]) -> list[Problem]:
    block = blocks[-1]
    if not block.valid:
        return [Problem(block.line, "", "expected a section header such as `[code-fast]`, alone on its line")]
    first = next(other for other in blocks if other.valid and other.name == block.name)
    if first is block:
        return []
    message = f"section written twice, on lines {first.line} and {block.line}"
    return [Problem(block.line, block.name, message, "merge the two, or rename one")]


def _parse_entry(content: str, section: str, number: int) -> IniEntry | None:
    before, equals, after = content.partition("=")
    key = before.strip()
    if not equals or not _KEY.fullmatch(key):
        return None
    value = after.strip()
    start = len(content) - len(after.lstrip())
    return IniEntry(section, key.lower(), value, number, (start, start + len(value)))


def _duplicate_key_problems(entry: IniEntry, block: _Block) -> list[Problem]:
    first = block.first_lines.setdefault(entry.key, entry.line)
    if first == entry.line:
        return []
    message = f"{entry.key}: written twice, on lines {first} and {entry.line}"
    return [Problem(entry.line, block.name, message, "keep one of them")]
