"""What the dialects share: decoding a request, and adding up a conversation."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, TypeVar

import msgspec

from llmstack.policy.facts import IMAGE_TOKENS, RequestFacts, tokens, without_harness
from llmstack.router.dialects.base import BadRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

SYSTEM_ROLES = frozenset(("system", "developer"))
NULL_BYTES = 4  # size of `null`: a raw member that is not longer is empty
ABSENT = msgspec.Raw()

# Of a system prompt, enough to tell agents apart; what changes (git status, a listing) comes later.
_OPENING_CHARS = 4096
_YEAR = re.compile(r"20\d\d")  # a line with a date differs tomorrow
_BILLING = "x-anthropic-billing-header:"  # Claude Code's; its value may change with each request


def decode(body: bytes | msgspec.Raw, decoder: msgspec.json.Decoder[T]) -> T:
    """Return a body as typed values.

    Raises:
        BadRequestError: malformed JSON or wrong types.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise BadRequestError(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequestError(f"the body is not JSON: {error}") from error
    except RecursionError as error:
        raise BadRequestError("the body is nested too deeply") from error


class Transcript(msgspec.Struct):
    """The size and shape of a conversation, added up message by message.

    Attributes:
        chars: characters of all messages.
        hidden_chars: further characters that the model reads: tool schemas, arguments, reasoning.
        images: pictures among the messages.
        files: sounds and documents, which cost as much as a picture.
        user_turns: messages that a human wrote.
        first, last: text of the first and the last of them, without harness text.
        tool_result_pending: the last message is the result of a tool.
    """

    chars: int = 0
    hidden_chars: int = 0
    images: int = 0
    files: int = 0
    user_turns: int = 0
    first: str = ""
    last: str = ""
    tool_result_pending: bool = False
    _system: list[str] = []

    def copy(self) -> Transcript:
        """Return a copy that can be added to."""
        return msgspec.structs.replace(self, _system=self._system.copy())

    def prepend_system(self, text: str) -> None:
        """Put a system prompt before all messages."""
        self.chars += len(text)
        self._system.insert(0, text)

    def add_system(self, text: str) -> None:
        """Add a system message."""
        self.chars += len(text)
        if not self.user_turns:
            self._system.append(text)

    def add_user(self, text: str, *, images: int = 0, files: int = 0) -> None:
        """Add a user message; text that a harness wrote in the human's place is not a turn."""
        self.chars += len(text)
        self.images += images
        self.files += files
        written = without_harness(text)
        if written or images or files:
            if not self.user_turns:
                self.first = written
            self.last = written
            self.user_turns += 1
            self.tool_result_pending = False

    def add_assistant(self, text: str) -> None:
        """Add a message of the model."""
        self.chars += len(text)
        self.tool_result_pending = False

    def add_tool_result(self, text: str, *, images: int = 0) -> None:
        """Add the result of a tool."""
        self.chars += len(text)
        self.images += images
        self.tool_result_pending = True

    def facts(self, *, output_tokens: int | None, tools: bool) -> RequestFacts:
        """Return the facts that a decision depends on."""
        file_tokens = IMAGE_TOKENS * (self.images + self.files)
        return RequestFacts(
            conversation_tokens=tokens(self.chars),
            context_tokens=tokens(self.chars + self.hidden_chars) + file_tokens,
            user_turns=self.user_turns,
            tool_result_pending=self.tool_result_pending,
            last_words=self.last,
            output_tokens=max(0, output_tokens or 0),
            images=self.images > 0,
            tools=tools,
        )

    @property
    def opening(self) -> str:
        """Digest of the part that stays while the conversation grows; empty if there is none."""
        system = _without_dated_lines("\n".join(self._system)[:_OPENING_CHARS])
        if not (self.first or system):
            return ""
        text = f"{system}\0{self.first}".encode(errors="surrogatepass")
        return blake2b(text, digest_size=16).hexdigest()


def _without_dated_lines(text: str) -> str:
    """Return a text without the lines that change with time."""
    if _BILLING not in text and _YEAR.search(text) is None:
        return text
    lines = text.split("\n")
    return "\n".join(line for line in lines if not (line.startswith(_BILLING) or _YEAR.search(line)))


def input_tokens(entries: str | Sequence[object] | None) -> list[int]:
    """Return the tokens of each input; inputs are texts, or lists of token numbers."""
    if entries is None:
        return []
    if isinstance(entries, str):
        return [tokens(len(entries))]
    if entries and all(isinstance(entry, int) for entry in entries):
        return [len(entries)]
    return [
        tokens(len(entry)) if isinstance(entry, str) else len(entry)
        for entry in entries
        if isinstance(entry, str | list)
    ]
