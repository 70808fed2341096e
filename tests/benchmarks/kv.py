"""What a swap costs with and without saved prompt caches: `python tests/benchmarks/kv.py`.

Conversations that share a long system prompt talk to model A in turns; before each round model B evicts it.
The same turns run three times: without swaps (a slot for each conversation), with swaps and saved caches,
and with swaps but without saved caches. Figures are the engine's own (`prompt_n`, `cache_n`). The models
have random weights, so that a wrong cache changes the answers.

`--exact N` compares the answers of N conversations over two swaps with those of a run without swaps, with
f16 caches at temperature 0. `--swaps N` runs a random workload and checks the disk usage.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.kv import Talk, Turn, swapping

from llmstack.llama_cpp.tiny import write_random
from llmstack.serving.kv.files import PromptCacheFiles
from llmstack.units import GB

SENTENCE = "Rule {}: an agent reads the file {} before it changes anything in it, and says why. "


@dataclass(frozen=True)
class Run:
    name: str
    turns: list[list[Turn]]
    eviction_times: list[float]


def opening(tokens: int, name: str = "") -> list[dict[str, str]]:
    """Return a system prompt of about so many tokens; a name makes it unique."""
    text = name + "".join(SENTENCE.format(n, n * 7919 % 1000) for n in range(tokens // 24))
    return [{"role": "system", "content": text}]


async def run(name: str, options: argparse.Namespace, models: Path, rounds: int, kv_gb: float) -> Run:
    """Run the conversations; without evictions if `kv_gb` is negative."""
    settings = {"ctx": options.tokens * 3 // 2, "threads": options.threads, "kv_gb": max(0, kv_gb)}
    slots = options.conversations if kv_gb < 0 else 2
    turns, eviction_times = [], []
    with tempfile.TemporaryDirectory() as work_dir:
        async with swapping(Path(work_dir), models, parallel=slots, **settings) as swapper:
            talks = [Talk(f"c{n}", opening(options.tokens)) for n in range(options.conversations)]
            for number in range(rounds + 1):
                answers = [
                    await talk.turn(swapper, f"{talk.session}, step {number}?", stream=number % 2 == 1)
                    for talk in talks
                ]
                turns.append(answers)
                print(f"  {name}, round {number}: {[(t.prompt_n, t.kv) for t in answers]}", flush=True)
                if kv_gb >= 0 and number < rounds:
                    started = time.monotonic()
                    await Talk("b").turn(swapper, "Something else?", tier="b")
                    eviction_times.append(time.monotonic() - started)
    return Run(name, turns, eviction_times)


def show(runs: list[Run]) -> None:
    unswapped = runs[0]
    print(f"{'':24} {'prompt_n':>16} {'furthest off':>13} {'s per turn':>11} {'s to evict, load B, ask':>24}")
    for measured in runs:
        later_turns = [turn for turns in measured.turns[1:] for turn in turns]
        max_difference = max(
            abs(turn.prompt_n - twin.prompt_n)
            for turns, twins in zip(measured.turns[1:], unswapped.turns[1:], strict=False)
            for turn, twin in zip(turns, twins, strict=True)
        )
        read = [turn.prompt_n for turn in later_turns]
        wall = statistics.median(turn.wall_s for turn in later_turns)
        evict_s = f"{statistics.median(measured.eviction_times):.2f}" if measured.eviction_times else "-"
        read_range = f"{min(read)}-{max(read)}"
        print(f"{measured.name:24} {read_range:>16} {max_difference:>13} {wall:>11.2f} {evict_s:>24}")
    first_turn_s = statistics.median(turn.wall_s for turn in unswapped.turns[0])
    print(f"the first turn of a conversation, which reads all of it: {first_turn_s:.2f} s")


async def alternate(options: argparse.Namespace, models: Path) -> None:
    cold_rounds = min(options.cold_rounds, options.rounds)
    print(
        f"{options.conversations} conversations that share {options.tokens} tokens;"
        f" a model {options.dim} wide, {options.layers} layers.\n"
        f"{options.rounds} rounds without a swap, as many with swaps,"
        f" {cold_rounds} with swaps and nothing saved.",
        flush=True,
    )
    unswapped = await run("no swap", options, models, options.rounds, -1)
    # Without saved caches, every round reads the shared prompt again.
    reads = options.conversations * (cold_rounds + 1)
    minutes = reads * max(turn.wall_s for turn in unswapped.turns[0]) / 60
    print(
        f"the rounds without the cache will take about {minutes:.0f} min; --cold-rounds says how many",
        flush=True,
    )
    saved = await run("swaps, caches saved", options, models, options.rounds, 8)
    show([unswapped, saved, await run("swaps, nothing saved", options, models, cold_rounds, 0)])


async def exact(options: argparse.Namespace, models: Path) -> None:
    """Compare answers token for token.

    The conversations share no prompt: if a slot already holds the beginning of another one, fewer tokens are
    read at once and rounding differs, with any server and even without swaps.
    """

    async def answers(*, swaps: bool) -> list[list[str]]:
        with tempfile.TemporaryDirectory() as work_dir:
            slots = 2 if swaps else options.exact
            settings = {"ctx": 2048, "threads": options.threads, "parallel": slots}
            async with swapping(Path(work_dir), models, **settings) as swapper:
                talks = [Talk(f"c{n}", opening(600, f"Agent {n}. ")) for n in range(options.exact)]
                texts: list[list[str]] = [[] for _ in talks]
                for number in range(3):
                    for talk, words in zip(talks, texts, strict=True):
                        turn = await talk.turn(
                            swapper, f"{talk.session}, step {number}?", tokens=24, logprobs=False
                        )
                        assert turn.kv.startswith("restored") == (swaps and number > 0), turn
                        words.append(turn.answer)
                    if swaps:
                        await swapper.load("b")
                return texts

    swapped, unswapped = await answers(swaps=True), await answers(swaps=False)
    same = sum(a == b for a, b in zip(swapped, unswapped, strict=True))
    distinct = len({answer for texts in unswapped for answer in texts})
    print(f"{same} of {options.exact} conversations answered the same ({distinct} different answers)")


async def workload(options: argparse.Namespace, models: Path) -> None:
    """Swap at random with a budget for a few conversations, and check the disk usage."""
    rng = random.Random(4)  # noqa: S311 - not for secrets
    budget_gb, max_bytes, restored = 0.02, 0, 0
    with tempfile.TemporaryDirectory() as work_dir:
        files = PromptCacheFiles(Path(work_dir) / "kv", 0)
        async with swapping(
            Path(work_dir), models, ctx=4096, threads=options.threads, kv_gb=budget_gb
        ) as swapper:
            for number in range(options.swaps):
                session = f"c{rng.randrange(12)}"
                talk = Talk(session, opening(rng.choice((400, 800, 1600))))
                turn = await talk.turn(swapper, f"{number}?", tokens=2)
                restored += turn.kv.startswith("restored")
                await swapper.load("b")
                max_bytes = max(max_bytes, files.total_bytes())
                assert max_bytes <= budget_gb * GB, (number, max_bytes)
                if number % 50 == 0:
                    print(
                        f"  swap {number}: {files.total_bytes() / 1e6:.1f} MB, {restored} restored",
                        flush=True,
                    )
        print(
            f"{options.swaps} swaps: at most {max_bytes / 1e6:.1f} MB of {budget_gb * GB / 1e6:.1f} MB,"
            f" {restored} restored, {len(files.entries())} kept"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--tokens", type=int, default=8000, help="of the shared system prompt")
    parser.add_argument("--conversations", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=20, help="swaps away and back")
    parser.add_argument(
        "--cold-rounds", type=int, default=2, help="the same without the cache: they are slow"
    )
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--threads", type=int, default=-1)
    parser.add_argument("--exact", type=int, metavar="N")
    parser.add_argument("--swaps", type=int, metavar="N")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        models = Path(directory)
        small = options.exact or options.swaps
        dim, layers = (128, 4) if small else (options.dim, options.layers)
        write_random(models / "a.gguf", dim=dim, layers=layers, seed=1)
        write_random(models / "b.gguf", dim=32, layers=1, seed=2)
        work = exact if options.exact else workload if options.swaps else alternate
        asyncio.run(work(options, models))


if __name__ == "__main__":
    main()
