r"""The echo model: real llama.cpp weights, set by hand, that answer `[tier] You said: <the user's words>`.

It is a copying machine. Every step, one attention head looks exactly DISTANCE tokens back and says what
stands there. The chat template (echo.jinja) ends every prompt with a region of REGION tokens that holds
the text to be copied, padded, so that DISTANCE is a constant whatever the length of that text:

    …messages… <|im_start|> r0 r1 r2 … pad pad pad <|im_end|> \n <|reply|> a0 a1 …
                            ^--------------- DISTANCE ----------------^
    r0 is said when <|reply|> is the newest token, r1 when a0 is, …

A copied pad is said as the end of the turn. What is to be copied (an echo, a tool call) is the template's
business alone. The weights hold no trace of a conversation, so any temperature gives the same answer.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from llmstack.llama_cpp.tiny.gguf_file import BEGIN, END, Shape, require_numpy, write_gguf
from llmstack.llama_cpp.tiny.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

# Lengths in bytes, which are tokens inside the region.
HEARD = 500  # of the user's words in an echo
ARGUMENT = 120  # of the user's words in each argument of a tool call
CALL = 400  # of a whole tool call; a grammar closes what is cut off
REGION = 768
LONGEST = REGION - 4  # leaves room for the three bytes of `…` and at least one pad
DISTANCE = REGION + 2  # <|im_end|> and a newline stand between the region and <|reply|>

START, REPLY, PAD = "<|im_start|>", "<|reply|>", "<|pad|>"
STAND_INS = {"<|lt|>": "<", "<|sp|>": " ", **{f"<|{vowel.upper()}|>": vowel for vowel in "aeiou"}}
END_OR_LESS = "<|stop-or-lt|>"  # copied as the end of the turn or, where a grammar forbids that, as `<`

# The residual stream. A byte is written as its two hexadecimal digits, one-hot: 32 dimensions tell 256 bytes
# apart exactly. Every embedding has the same length (NORM), so that the norm in front of the attention scales
# all tokens alike.
WIDTH = 128
HIGH, LOW = 0, 16  # 16 dimensions each: the digits of this token's byte
STOP = 32  # this token, copied, ends the turn: padding and what surrounds it
IS_REPLY = 33
IS_NOTICE = 34
OTHER = 35  # nothing to copy: merged words
ONE = 36  # 1 in every token
COPIED = 64  # from here on: HIGH, LOW and STOP of the token DISTANCE back, written by the copying head
ANSWERING = 97  # 1 while <|reply|> is at most about 1000 tokens back, written by the watching head
NORM = 3.0  # squared length of an embedding

HEAD = 64
ROPE_BASE = 500.0  # slowest pair of a head: one turn in 2590 tokens
SHARPNESS = 9.0  # the copying head scores a hit 13 above its neighbours: exp(-13) of the rest leaks in
WATCH = 200.0  # the watching head's score, far above ln(context)
HORIZON = REGION // 2  # tokens: the middle of the span in which the watching head sees <|reply|>

STEP = 8.0  # least distance between two logits, of bytes that only a grammar makes us choose from
# Where a grammar forbids the copied byte, the first of these that it allows: closes JSON as soon as it may,
# and ends a tool call (newline, `<`) rather than add another one (comma).
CLOSING = b'"}]<:{[\n,01-'


def write_echo(path: Path, *, speaker: str, context: int = 262144) -> None:
    """Write a model that answers `[<speaker>] You said: <the last user message>`.

    It calls an offered tool that the user names, bends to a JSON schema, and otherwise stops after about
    500 bytes of the user's words. A raw completion, which no chat template shapes, gets one fixed sentence.

    Args:
        path: the GGUF file.
        speaker: who answers, e.g. the tier's name.
        context: the context it claims, in tokens.

    Raises:
        LlmstackError: the extra `engine` is not installed, or the file cannot be written.
    """
    notice = f"[{speaker}] There is nothing to echo: this was no chat message."
    vocabulary = Vocabulary.build((BEGIN, START, END, REPLY, PAD, *STAND_INS, END_OR_LESS), (notice,))
    shape = Shape(context=context, width=WIDTH, head=HEAD, feed_forward=32, layers=1, rope_base=ROPE_BASE)
    np = require_numpy()
    write_gguf(
        path,
        name=f"echo-{speaker}",
        shape=shape,
        vocabulary=vocabulary,
        template=_template(speaker),
        tensors={
            "token_embd.weight": _embedding(np, vocabulary, notice),
            "output.weight": _logits(np, vocabulary, notice),
            "output_norm.weight": np.ones(WIDTH, np.float32),
            **_layer(np, shape),
        },
    )


def _template(speaker: str) -> str:
    text = resources.files(__package__).joinpath("echo.jinja").read_text(encoding="utf-8")
    quoted = f"[{speaker}]".replace("\\", "\\\\").replace("'", "\\'")
    for name, value in {
        "LONGEST": LONGEST,
        "REGION": REGION,
        "HEARD": HEARD,
        "ARGUMENT": ARGUMENT,
        "CALL": CALL,
    }.items():
        text = text.replace(name, str(value))
    return text.replace("SPEAKER", quoted)


def _embedding(np: Any, vocabulary: Vocabulary, notice: str) -> Any:
    """One row per token: what it is."""
    rows = np.zeros((len(vocabulary.tokens), WIDTH), np.float16)
    flag = (NORM - 1) ** 0.5
    rows[:, ONE] = 1
    rows[256:, OTHER] = flag
    said = {byte: byte for byte in range(256)}
    said |= {vocabulary.ids[token]: ord(letter) for token, letter in STAND_INS.items()}
    for token, byte in said.items():
        rows[token, OTHER] = 0
        rows[token, HIGH + byte // 16] = rows[token, LOW + byte % 16] = 1
    flags = {BEGIN: STOP, START: STOP, END: STOP, PAD: STOP, REPLY: IS_REPLY, notice: IS_NOTICE}
    for text, dimension in flags.items():
        rows[vocabulary.ids[text], OTHER] = 0
        rows[vocabulary.ids[text], dimension] = flag
    less = ord("<")
    rows[vocabulary.ids[END_OR_LESS], [STOP, HIGH + less // 16, LOW + less % 16, OTHER]] = 1.2, 0.5, 0.5, 0.25
    return rows


def _layer(np: Any, shape: Shape) -> dict[str, Any]:
    """Two heads: one copies from DISTANCE back, one watches whether an answer is being given at all."""
    gain = (WIDTH / NORM) ** 0.5  # of the norm in front: an embedding's 1 arrives as this
    flag = (NORM - 1) ** 0.5
    query, key, value, output = (np.zeros((WIDTH, WIDTH), np.float32) for _ in range(4))

    # RoPE turns pair i of a query or key by its position times frequency[i]; a query turned back by DISTANCE
    # beforehand is in phase with the key that far away, and with that key only, in all pairs at once.
    frequency = ROPE_BASE ** (-np.arange(HEAD // 2) / (HEAD // 2))
    strength = (SHARPNESS * HEAD**0.5) ** 0.5 / gain
    key[0:HEAD:2, ONE] = strength
    query[0:HEAD:2, ONE] = strength * np.cos(frequency * DISTANCE)
    query[1:HEAD:2, ONE] = -strength * np.sin(frequency * DISTANCE)
    for dimension in range(STOP + 1):
        value[dimension, dimension] = output[COPIED + dimension, dimension] = 1
    value /= gain

    # Only <|reply|> has a key here, in the slowest pair: half a turn of it is the span in which it is seen.
    slowest = 2 * HEAD - 2
    strength = (WATCH * HEAD**0.5) ** 0.5 / gain
    key[slowest, IS_REPLY] = strength / flag
    query[slowest, ONE] = strength * np.cos(frequency[-1] * HORIZON)
    query[slowest + 1, ONE] = -strength * np.sin(frequency[-1] * HORIZON)
    value[HEAD, IS_REPLY] = 1 / (gain * flag)
    output[ANSWERING, HEAD] = 1

    unused = np.zeros((shape.feed_forward, WIDTH), np.float16)
    tensors = {
        "attn_norm": np.ones(WIDTH, np.float32),
        "attn_q": query,
        "attn_k": key,
        "attn_v": value,
        "attn_output": output,
        "ffn_norm": np.ones(WIDTH, np.float32),
        "ffn_gate": unused,
        "ffn_up": unused,
        "ffn_down": unused.T.copy(),
    }
    return {f"blk.0.{name}.weight": values for name, values in tensors.items()}


def _logits(np: Any, vocabulary: Vocabulary, notice: str) -> Any:
    """One row per token: when it is said.

    The copied token gets 2. All that can be said gets a part of 1 by its rank, for when a grammar forbids
    the copy. Outside an answer, or far beyond its region, copies are overruled: the notice, then the end of
    the turn, then what closes JSON, 3 apart.
    """
    end, flag = vocabulary.ids[END], (NORM - 1) ** 0.5
    rows = np.zeros((len(vocabulary.tokens), WIDTH), np.float32)
    for byte in range(256):
        rows[byte, COPIED + HIGH + byte // 16] = rows[byte, COPIED + LOW + byte % 16] = 1
    rows[end, COPIED + STOP] = 2 / flag

    closing = [end, *CLOSING]
    ranked = [*closing, *(byte for byte in _by_preference() if byte not in CLOSING)]
    ranks = np.linspace(1.0, 0.5, len(ranked))
    outside = np.maximum(3.0 * (len(closing) - np.arange(len(ranked))), 0)
    rows[ranked, ONE] = ranks + outside
    rows[ranked, ANSWERING] = -outside
    first = 3.0 * (len(closing) + 1)
    rows[vocabulary.ids[notice], [ONE, ANSWERING, IS_NOTICE]] = first, -first - 1, -first / flag

    quietest = (WIDTH / (NORM + 3)) ** 0.5  # the last norm's gain in an answer: embedding, copy and flag
    return (rows * (STEP / (quietest * (ranks[0] - ranks[1])))).astype(np.float16)


def _by_preference() -> list[int]:
    """Letters and digits, then other ASCII signs, then spaces and control bytes, then parts of characters."""
    return sorted(
        range(256),
        key=lambda byte: (
            not chr(byte).isascii(),
            byte <= ord(" "),
            not chr(byte).isalnum(),
            not chr(byte).islower(),
            byte,
        ),
    )
