"""The tiny models' tokens: 256 bytes, then merges for common words, then control tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.llama_cpp.tiny.word_list import SYLLABLES, WORDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NORMAL, CONTROL = 1, 3  # GGUF token types
SPLITTERS = " aeiou"  # a merged token holds at least one of them
INDENTS = (2, 4, 8, 16)  # runs of spaces that are one token


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Tokens in the order of their numbers; a byte's token has that byte as its number.

    Attributes:
        tokens: their texts, spelt in GPT-2's byte alphabet unless they are control tokens.
        types: GGUF token type of each.
        merges: pairs that byte-pair encoding joins, the earliest first.
        ids: number of every token that is not a byte or a merge, by its plain text.
    """

    tokens: tuple[str, ...]
    types: tuple[int, ...]
    merges: tuple[str, ...]
    ids: Mapping[str, int]

    @classmethod
    def build(cls, controls: Sequence[str], phrases: Sequence[str] = ()) -> Vocabulary:
        """Make the vocabulary.

        Args:
            controls: control tokens; text that spells one is read as that token.
            phrases: texts that are one token each when the model says them, and are never read as one.
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
    """GPT-2's alphabet: printable Latin-1 stands for itself, every other byte for a letter from U+0100 on."""
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)}
    others = (byte for byte in range(256) if byte not in printable)
    stand_ins = {byte: chr(256 + place) for place, byte in enumerate(others)}
    return [stand_ins.get(byte, chr(byte)) for byte in range(256)]


def _spell(text: str, alphabet: list[str]) -> str:
    return "".join(alphabet[byte] for byte in text.encode())


def _merges(alphabet: list[str]) -> list[tuple[str, str]]:
    """Grow words letter by letter from their leading space (`Ġt`, `Ġth`, `Ġthe`), the rest from syllables.

    Every merge starts from a pair that holds one of SPLITTERS, so text without them stays one token per byte.
    """
    space = alphabet[ord(" ")]
    pairs = {(space * (width // 2), space * (width // 2)): None for width in INDENTS}
    for text in (*(space + word for word in WORDS.split()), *SYLLABLES.split()):
        for end in range(1, len(text)):
            pairs[text[:end], text[end]] = None
    return list(pairs)
