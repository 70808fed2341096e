"""Changing values of a models.ini in place: its comments and layout stay."""

from __future__ import annotations

from llmstack.config.ini import Section, scan
from llmstack.errors import LlmstackError


def set_value(text: str, section: str, key: str, value: str) -> str:
    """Return the text with one value changed, or added below the section's header.

    Raises:
        LlmstackError: there is no such section.
    """
    found = _section(text, section)
    lines = text.split("\n")
    entry = found.find(key)
    if entry is None:
        ending = "\r" if lines[found.line - 1].endswith("\r") else ""
        lines.insert(found.line, f"{key} = {value}{ending}")
    else:
        line, (start, end) = lines[entry.line - 1], entry.span
        lines[entry.line - 1] = line[:start] + value + line[end:]
    return "\n".join(lines)


def remove_key(text: str, section: str, key: str) -> str:
    """Return the text without the line of a key; unchanged where it is not there.

    Raises:
        LlmstackError: there is no such section.
    """
    entry = _section(text, section).find(key)
    if entry is None:
        return text
    lines = text.split("\n")
    del lines[entry.line - 1]
    return "\n".join(lines)


def comment_out(text: str, section: str, key: str) -> str:
    """Return the text with a key's line made a comment, `;key = value`; unchanged where it is not there.

    Raises:
        LlmstackError: there is no such section.
    """
    entry = _section(text, section).find(key)
    if entry is None:
        return text
    lines = text.split("\n")
    lines[entry.line - 1] = f";{lines[entry.line - 1].lstrip()}"
    return "\n".join(lines)


def _section(text: str, name: str) -> Section:
    found = scan(text).find(name)
    if found is None:
        raise LlmstackError(f"models.ini has no section [{name}]")
    return found
