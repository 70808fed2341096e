"""The INI grammar of models.ini.

The standard library's configparser gives no line numbers, stops at the first mistake and reads a
mistyped line as a continuation of the one above, so this is a scanner of our own.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field

from llmstack.errors import Problem

_COMMENT = re.compile(r"\s;")
_HEADER = re.compile(r"\[([^\[\]]+)\]")
_KEY = re.compile(r"[A-Za-z0-9_.-]+")
# Controls and formatting characters: what they hide reaches command lines, file names and terminals.
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@dataclass(frozen=True, slots=True)
class IniEntry:
    """One `key = value`.

    Attributes:
        key: lower case.
        value: without the comment and outer blanks; may be empty.
        line: 1-based.
        span: where the value stands in that line, for an edit that keeps the rest of it.
    """

    section: str
    key: str
    value: str
    line: int
    span: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Section:
    """One `[name]` and its entries in file order; a key written twice is there twice."""

    name: str
    line: int
    entries: tuple[IniEntry, ...] = ()

    def find(self, key: str) -> IniEntry | None:
        """Return the first entry of this key."""
        return next((entry for entry in self.entries if entry.key == key), None)


@dataclass(frozen=True, slots=True)
class Scan:
    """What a text says, and what in it is not INI; a section written twice is there twice."""

    sections: tuple[Section, ...]
    problems: tuple[Problem, ...]

    def find(self, name: str) -> Section | None:
        """Return the first section of this name."""
        return next((section for section in self.sections if section.name == name), None)


@dataclass(slots=True)
class _Block:
    """A section while it is being read; after a header that is none, what follows belongs nowhere."""

    name: str
    line: int
    valid: bool = True
    entries: list[IniEntry] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)


def scan(text: str) -> Scan:
    """Read a text into sections and entries, collecting what does not fit the grammar."""
    problems: list[Problem] = []
    blocks = [_Block("", 0, valid=False)]
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        content = _content(line)
        if not content:
            continue
        block = blocks[-1]
        if any(unicodedata.category(char) in _HIDDEN for char in content if char != "\t"):
            problems.append(_hidden(content, block.name, number))
        elif content.lstrip().startswith("["):
            blocks.append(_header(content.strip(), number))
            problems += _header_problems(blocks)
        elif (entry := _entry(content, block.name, number)) is None:
            # Not shown: it may be a secret that was pasted in the wrong place.
            problems.append(Problem(number, block.name, "expected `key = value`, `[section]` or `; comment`"))
        elif block.valid:
            problems += _duplicate(entry, block)
            block.entries.append(entry)
        elif not block.line:
            problems.append(Problem(number, "", f"{entry.key}: stands before any section"))
    return Scan(
        tuple(Section(block.name, block.line, tuple(block.entries)) for block in blocks if block.valid),
        tuple(problems),
    )


def _content(line: str) -> str:
    """Return the line without its comment and the blanks before it; columns stay as they are."""
    line = line.removesuffix("\r")
    if line.lstrip().startswith((";", "#")):
        return ""
    comment = _COMMENT.search(line)
    return (line[: comment.start()] if comment else line).rstrip()


def _hidden(content: str, section: str, number: int) -> Problem:
    code = next(ord(char) for char in content if char != "\t" and unicodedata.category(char) in _HIDDEN)
    return Problem(
        number, section, f"the line holds an invisible character (U+{code:04X})", "type the line again"
    )


def _header(content: str, number: int) -> _Block:
    found = _HEADER.fullmatch(content)
    name = found[1].strip() if found else ""
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


def _entry(content: str, section: str, number: int) -> IniEntry | None:
    left, equals, right = content.partition("=")
    key = left.strip()
    if not equals or not _KEY.fullmatch(key):
        return None
    value = right.strip()
    start = len(content) - len(right.lstrip())
    return IniEntry(section, key.lower(), value, number, (start, start + len(value)))


def _duplicate(entry: IniEntry, block: _Block) -> list[Problem]:
    first = block.lines.setdefault(entry.key, entry.line)
    if first == entry.line:
        return []
    message = f"{entry.key}: written twice, on lines {first} and {entry.line}"
    return [Problem(entry.line, block.name, message, "keep one of them")]
