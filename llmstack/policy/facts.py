"""The facts of a request that a routing decision depends on."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

Task = Literal["chat", "embedding", "rerank", "infill"]

CHARACTERS_PER_TOKEN = 4  # estimate; the ceilings in models.ini are meant for it
LONGEST_WRITTEN = 256 * 1024  # characters; to search 1 MB of tags takes 100 ms
IMAGE_TOKENS = 1000  # fixed estimate per image; providers and engines count 85 to 1 600

# Tags around text that coding agents add to, or send instead of, what the user wrote.
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
    """Facts of one request. Token counts are estimates.

    Attributes:
        conversation_tokens: text of all messages and the prompt; compared with the ceilings.
        context_tokens: conversation plus tool schemas, tool-call arguments and images: all the model reads.
        user_turns: number of messages that the user wrote.
        tool_result_pending: the last message is the result of a tool.
        last_words: the user's last message, without harness text.
        output_tokens: maximum length of the answer; 0 if the request sets none.
        task: kind of request; `infill` is text between a prefix and a suffix.
        images: the request contains images.
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
    """Return the estimated number of tokens of so many characters."""
    return characters // CHARACTERS_PER_TOKEN


def without_harness(text: str) -> str:
    """Return a user message without the blocks that coding agents add to it.

    A block that is never closed stays, since the user may have written it. Takes linear time. Of a text that
    is longer than anybody writes, only the start and the end are read.
    """
    if len(text) > LONGEST_WRITTEN:
        text = text[: LONGEST_WRITTEN // 2] + text[-LONGEST_WRITTEN // 2 :]
    if "<" not in text:
        return text.strip()
    if text.startswith("# AGENTS.md"):
        text = _CODEX_RULES.sub("", text, count=1)
    tags = list(_TAG.finditer(text))
    last_closing = {tag[2]: tag.start() for tag in tags if tag[1]}
    parts, end, open_tag = [], 0, ""
    for tag in tags:
        is_closing, name = bool(tag[1]), tag[2]
        if open_tag:
            if is_closing and name == open_tag:
                end, open_tag = tag.end(), ""
        elif not is_closing and last_closing.get(name, -1) > tag.start():
            parts.append(text[end : tag.start()])
            open_tag = name
    return "".join([*parts, text[end:]]).strip()
