"""Change values in the text of a models.ini; comments and layout stay as they are."""

from __future__ import annotations

from llmstack.config.ini import Section, scan
from llmstack.errors import LlmstackError


def set_value(text: str, section: str, key: str, value: str) -> str:
    """Return the text with one value set: in place, or in a new line below the section's header.

    Raises:
        LlmstackError: there is no such section.
    """
    ini_section = _find_section(text, section)
    entry = ini_section.find(key)
    lines = text.split("\n")
    if entry is None:
        line_end = "\r" if lines[ini_section.line - 1].endswith("\r") else ""
        lines.insert(ini_section.line, f"{key} = {value}{line_end}")
    else:
        line, (start, end) = lines[entry.line - 1], entry.span
        lines[entry.line - 1] = line[:start] + value + line[end:]
    return "\n".join(lines)


def remove_key(text: str, section: str, key: str) -> str:
    """Return the text without the line of a key; unchanged if the section does not have the key.

    Raises:
        LlmstackError: there is no such section.
    """
    entry = _find_section(text, section).find(key)
    if entry is None:
        return text
    lines = text.split("\n")
    del lines[entry.line - 1]
    return "\n".join(lines)


def comment_out(text: str, section: str, key: str) -> str:
    """Return the text with the line of a key commented out; unchanged if the section does not have the key.

    Raises:
        LlmstackError: there is no such section.
    """
    entry = _find_section(text, section).find(key)
    if entry is None:
        return text
    lines = text.split("\n")
    lines[entry.line - 1] = f";{lines[entry.line - 1].lstrip()}"
    return "\n".join(lines)


def _find_section(text: str, name: str) -> Section:
    section = scan(text).find(name)
    if section is None:
        raise LlmstackError(f"models.ini has no section [{name}]")
    return section
