"""The vocabulary of the tiny models: 256 bytes, then merges for common words, then control tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.llama_cpp.tiny.word_list import SYLLABLES, WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NORMAL, CONTROL = 1, 3  # GGUF token types
SPLITTERS = " aeiou"  # each merged token contains at least one of them
INDENTS = (2, 4, 8, 16)  # numbers of spaces that are one token


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary. The id of a byte's token is the byte itself.

    Attributes:
        tokens: texts of the tokens by id, in GPT-2's byte alphabet except for control tokens.
        types: the GGUF token type of each.
        merges: pairs that byte-pair encoding joins, in order of precedence.
        ids: ids of the tokens that are neither bytes nor merges, by their plain text.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    ids: Mapping[str, int]

    @classmethod
    def build(cls, controls: Sequence[str], phrases: Sequence[str] = ()) -> Vocabulary:
        """Create a vocabulary.

        Args:
            controls: control tokens; text that spells one is tokenized as it.
            phrases: texts that are one token each in the model's output, but never in its input.
        """
        alphabet = _byte_alphabet()
        pairs = _merges(alphabet)
        tokens = [*alphabet, *(left + right for left, right in pairs)]
        ids = {}
        for text, spelling in [
            *((text, text) for text in controls),
            *((text, _spell(text, alphabet)) for text in phrases),
        ]:
            ids[text] = len(tokens)
            tokens.append(spelling)
        types = [CONTROL if token in controls else NORMAL for token in tokens]
        return cls(tuple(tokens), tuple(types), tuple(f"{left} {right}" for left, right in pairs), ids)


def _byte_alphabet() -> list[str]:
    """Return GPT-2's letter for each byte: itself if it is printable Latin-1, else one from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)}
    others = (byte for byte in range(256) if byte not in printable)
    substitutes = {byte: chr(256 + index) for index, byte in enumerate(others)}
    return [substitutes.get(byte, chr(byte)) for byte in range(256)]


def _spell(text: str, alphabet: list[str]) -> str:
    return "".join(alphabet[byte] for byte in text.encode())


def _merges(alphabet: list[str]) -> list[tuple[str, str]]:
    """Return merges that build words letter by letter after a space (`Ġt`, `Ġth`, `Ġthe`), then syllables.

    Each merge contains one of SPLITTERS, so text without them stays one token per byte.
    """
    space = alphabet[ord(" ")]
    pairs = {(space * (width // 2), space * (width // 2)): None for width in INDENTS}
    for text in (*(space + word for word in WORDS.split()), *SYLLABLES.split()):
        for end in range(1, len(text)):
            pairs[text[:end], text[end]] = None
    return list(pairs)
