r"""The echo model: llama.cpp weights set by hand that answer `[tier] You said: <the user's words>`.

It copies text. In every step, one attention head attends to the token exactly DISTANCE tokens back, and the
model outputs that token. The chat template (echo.jinja) ends every prompt with a region of REGION tokens that
holds the text to copy and padding, so that DISTANCE is constant whatever the length of the text:

    …messages… <|im_start|> r0 r1 r2 … pad pad pad <|im_end|> \n <|reply|> a0 a1 …
                            ^--------------- DISTANCE ----------------^
    The model outputs r0 when <|reply|> is the newest token, r1 when a0 is, …

A copied pad is output as the end of the turn. The template alone decides what to copy (an echo or a tool
call). The probabilities are so distinct that any temperature gives the same answer.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

from llmstack.llama_cpp.tiny.gguf_file import BEGIN, END, Shape, require_numpy, write_gguf
from llmstack.llama_cpp.tiny.vocabulary import Vocabulary

if TYPE_CHECKING:
    from pathlib import Path

# Lengths in bytes; inside the region a byte is a token.
MAX_ECHO = 500  # of the user's words in an echo
MAX_ARGUMENT = 120  # of the user's words in each argument of a tool call
MAX_CALL = 400  # of a whole tool call; a grammar closes what is cut off
REGION = 768
MAX_REPLY = REGION - 4  # leaves room for the three bytes of `…` and at least one pad
DISTANCE = REGION + 2  # <|im_end|> and a newline are between the region and <|reply|>

START, REPLY, PAD = "<|im_start|>", "<|reply|>", "<|pad|>"
# Control tokens for characters that would merge with their neighbours or start a control token.
SUBSTITUTES = {"<|lt|>": "<", "<|sp|>": " ", **{f"<|{vowel.upper()}|>": vowel for vowel in "aeiou"}}
END_OR_LESS = "<|stop-or-lt|>"  # copied as the end of the turn or, if a grammar forbids that, as `<`

# Dimensions of the residual stream. A byte is two one-hot hexadecimal digits, so that 32 dimensions
# distinguish 256 bytes exactly. Every embedding has the same length (NORM), so that the norm before the
# attention scales all tokens equally.
WIDTH = 128
HIGH, LOW = 0, 16  # 16 dimensions each: the digits of this token's byte
STOP = 32  # a copy of this token ends the turn: padding and the tokens around the region
IS_REPLY = 33
IS_NOTICE = 34
OTHER = 35  # cannot be copied: merged words
ONE = 36  # 1 in every token
COPIED = 64  # start of HIGH, LOW and STOP of the token DISTANCE back, written by the copying head
ANSWERING = 97  # 1 while <|reply|> is at most about 1000 tokens back, written by the watching head
NORM = 3.0  # squared length of an embedding

HEAD = 64
ROPE_BASE = 500.0  # the slowest pair of a head makes one turn in 2590 tokens
SHARPNESS = 9.0  # the copying head scores a match 13 above its neighbours: exp(-13) of them leaks in
WATCH = 200.0  # score of the watching head, far above ln(context)
HORIZON = REGION // 2  # tokens; the middle of the range in which the watching head sees <|reply|>

STEP = 8.0  # smallest difference between two logits, those of bytes that only a grammar makes possible
# If a grammar forbids the copied byte, the model outputs the first of these that it allows: they close JSON
# as soon as possible, and end a tool call (newline, `<`) rather than start another one (comma).
CLOSING = b'"}]<:{[\n,01-'


def write_echo(path: Path, *, speaker: str, context: int = 262144) -> None:
    """Write a model that answers `[<speaker>] You said: <the last user message>`.

    It calls a tool if the user names it, and obeys a JSON schema. An echo has at most about 500 bytes of the
    user's words. A raw completion, to which no chat template applies, gets one fixed sentence.

    Args:
        path: the GGUF file.
        speaker: the name in the answers, for example the tier's.
        context: context length in tokens that the file declares.

    Raises:
        LlmstackError: the extra `engine` is not installed, or the file cannot be written.
    """
    notice = f"[{speaker}] There is nothing to echo: this was no chat message."
    vocabulary = Vocabulary.build((BEGIN, START, END, REPLY, PAD, *SUBSTITUTES, END_OR_LESS), (notice,))
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
        "MAX_REPLY": MAX_REPLY,
        "REGION": REGION,
        "MAX_ECHO": MAX_ECHO,
        "MAX_ARGUMENT": MAX_ARGUMENT,
        "MAX_CALL": MAX_CALL,
    }.items():
        text = text.replace(name, str(value))
    return text.replace("SPEAKER", quoted)


def _embedding(np: Any, vocabulary: Vocabulary, notice: str) -> Any:
    """Return one row per token: what the token is."""
    rows = np.zeros((len(vocabulary.tokens), WIDTH), np.float16)
    flag = (NORM - 1) ** 0.5
    rows[:, ONE] = 1
    rows[256:, OTHER] = flag
    byte_of_token = {byte: byte for byte in range(256)}
    byte_of_token |= {vocabulary.ids[token]: ord(letter) for token, letter in SUBSTITUTES.items()}
    for token, byte in byte_of_token.items():
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
    """Return the layer of two heads: one copies from DISTANCE back, one watches for an answer in progress."""
    gain = (WIDTH / NORM) ** 0.5  # of the norm before the attention: it turns an embedding's 1 into this
    flag = (NORM - 1) ** 0.5
    query, key, value, output = (np.zeros((WIDTH, WIDTH), np.float32) for _ in range(4))

    # RoPE rotates pair i of a query or key by its position times frequency[i]. A query that is rotated back
    # by DISTANCE in advance is in phase, in all pairs at once, only with the key that far away.
    frequency = ROPE_BASE ** (-np.arange(HEAD // 2) / (HEAD // 2))
    strength = (SHARPNESS * HEAD**0.5) ** 0.5 / gain
    key[0:HEAD:2, ONE] = strength
    query[0:HEAD:2, ONE] = strength * np.cos(frequency * DISTANCE)
    query[1:HEAD:2, ONE] = -strength * np.sin(frequency * DISTANCE)
    for dimension in range(STOP + 1):
        value[dimension, dimension] = output[COPIED + dimension, dimension] = 1
    value /= gain

    # Only <|reply|> has a key here, in the slowest pair; it is visible for half a turn of that pair.
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
    """Return one row per token: when the model outputs it.

    The copied token gets 2. Every possible token gets a fraction of 1 by its rank, for the case that a
    grammar forbids the copy. Outside an answer, or far beyond its region, other tokens score higher than
    copies, 3 apart: the notice, then the end of the turn, then those that close JSON.
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

    quietest = (WIDTH / (NORM + 3)) ** 0.5  # gain of the last norm in an answer: embedding, copy and flag
    return (rows * (STEP / (quietest * (ranks[0] - ranks[1])))).astype(np.float16)


def _by_preference() -> list[int]:
    """Return all bytes: letters and digits, other ASCII characters, space and control bytes, the rest."""
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
