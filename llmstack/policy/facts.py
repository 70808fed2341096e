"""What a request says, as far as a decision depends on it."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Task = Literal["chat", "embedding", "rerank", "infill"]

CHARACTERS_PER_TOKEN = 4  # the estimate that ceilings are written for
IMAGE_TOKENS = 1000  # fixed cost of one image; providers and engines charge 85 to 1 600

# What coding agents wrap around, or send in place of, the words of a human.
HARNESS_TAGS = (
    "system-reminder",
    "environment_context",
    "environment_details",
    "user_instructions",
    "local-command-stdout",
    "local-command-stderr",
    "command-name",
    "command-message",
    "command-args",
    "local-command-caveat",
    "task-notification",
    "turn_aborted",
    "bash-stdout",
    "bash-stderr",
    "ide_selection",
    "ide_opened_file",
)

_CODEX_RULES = re.compile(
    r"# AGENTS\.md instructions for [^\n]*\n\s*<INSTRUCTIONS>.*</INSTRUCTIONS>", re.DOTALL
)
_TAG = re.compile(rf"<(/?)({'|'.join(HARNESS_TAGS)})(?:\s[^<>]*)?>")


class RequestFacts(msgspec.Struct, frozen=True, gc=False):
    """Facts of one request.

    Attributes:
        conversation_tokens: text of all messages and the prompt; what the ceilings are compared with.
        context_tokens: that plus tool schemas, tool-call arguments and images: all the model will read.
        user_turns: messages that a human wrote.
        tool_result_pending: the last message is the result of a tool.
        last_words: what the human last wrote, without harness text.
        output_tokens: the asked-for maximum of the answer; 0 where none was asked for.
        task: what is asked for; `infill` is text between a prefix and a suffix.
        images: the model must be able to see.
        tools: the request offers tools.
    """

    conversation_tokens: int = 0
    context_tokens: int = 0
    user_turns: int = 0
    tool_result_pending: bool = False
    last_words: str = ""
    output_tokens: int = 0
    task: Task = "chat"
    images: bool = False
    tools: bool = False


def tokens(characters: int) -> int:
    """Return the estimated tokens of this many characters."""
    return characters // CHARACTERS_PER_TOKEN


def without_harness(text: str) -> str:
    """Return what is left of a user message without the blocks that harnesses put around it.

    A block that is never closed stays: a human may have written it. Two passes, whatever the text.
    """
    if "<" not in text:
        return text.strip()
    if text.startswith("# AGENTS.md"):
        text = _CODEX_RULES.sub("", text, count=1)
    tags = list(_TAG.finditer(text))
    last_closing = {tag[2]: tag.start() for tag in tags if tag[1]}
    kept, end, inside = [], 0, ""
    for tag in tags:
        closing, name = tag[1], tag[2]
        if inside:
            if closing and name == inside:
                end, inside = tag.end(), ""
        elif not closing and last_closing.get(name, -1) > tag.start():
            kept.append(text[end : tag.start()])
            inside = name
    return "".join([*kept, text[end:]]).strip()
