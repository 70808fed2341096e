"""What the dialects share in reading a request: decoding, and the tally of a conversation."""

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
NULL = 4  # bytes of `null`: a raw member that is no longer says nothing
ABSENT = msgspec.Raw()

# Of a system prompt, enough to tell agents apart; what changes (git status, a listing) stands further down.
_OPENING_CHARACTERS = 4096
_YEAR = re.compile(r"20\d\d")  # a line with a date in it is not the same tomorrow
_BILLING = "x-anthropic-billing-header:"  # Claude Code's, with a stamp that may change in each request


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
    """The tally of a conversation, message by message.

    Attributes:
        characters: of all messages.
        unsaid: characters that the model reads besides: tool schemas, arguments, reasoning.
        images: pictures among the messages.
        files: sounds and documents, which cost what a picture does.
        turns: of the human's.
        first, last: words of the first and the last of them, without harness text.
        pending: the last message is the result of a tool.
    """

    characters: int = 0
    unsaid: int = 0
    images: int = 0
    files: int = 0
    turns: int = 0
    first: str = ""
    last: str = ""
    pending: bool = False
    _system: list[str] = []

    def copy(self) -> Transcript:
        """Return what can be added to without a change of this one."""
        return msgspec.structs.replace(self, _system=self._system.copy())

    def headed(self, text: str) -> None:
        """Put a system prompt before all messages."""
        self.characters += len(text)
        self._system.insert(0, text)

    def instructed(self, text: str) -> None:
        """Add a message of the system's."""
        self.characters += len(text)
        if not self.turns:
            self._system.append(text)

    def heard(self, text: str, *, images: int = 0, files: int = 0) -> None:
        """Add a user message; what a harness wrote in the human's place is no turn."""
        self.characters += len(text)
        self.images += images
        self.files += files
        words = without_harness(text)
        if words or images or files:
            if not self.turns:
                self.first = words
            self.last = words
            self.turns += 1
            self.pending = False

    def answered(self, text: str) -> None:
        """Add a message of the model's."""
        self.characters += len(text)
        self.pending = False

    def returned(self, text: str, *, images: int = 0) -> None:
        """Add the result of a tool."""
        self.characters += len(text)
        self.images += images
        self.pending = True

    def facts(self, *, output_tokens: int | None, tools: bool) -> RequestFacts:
        """Return what a decision depends on."""
        seen = IMAGE_TOKENS * (self.images + self.files)
        return RequestFacts(
            conversation_tokens=tokens(self.characters),
            context_tokens=tokens(self.characters + self.unsaid) + seen,
            user_turns=self.turns,
            tool_result_pending=self.pending,
            last_words=self.last,
            output_tokens=max(0, output_tokens or 0),
            images=self.images > 0,
            tools=tools,
        )

    @property
    def opening(self) -> str:
        """Digest of what stays while the conversation grows; empty where there is nothing of it."""
        system = _lasting("\n".join(self._system)[:_OPENING_CHARACTERS])
        if not (self.first or system):
            return ""
        text = f"{system}\0{self.first}".encode(errors="surrogatepass")
        return blake2b(text, digest_size=16).hexdigest()


def _lasting(text: str) -> str:
    """Return a text without the lines that are another tomorrow."""
    if _BILLING not in text and _YEAR.search(text) is None:
        return text
    lines = text.split("\n")
    return "\n".join(line for line in lines if not (line.startswith(_BILLING) or _YEAR.search(line)))


def sizes(entries: str | Sequence[object] | None) -> list[int]:
    """Return the tokens of each of several inputs: texts, or tokens as numbers."""
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
