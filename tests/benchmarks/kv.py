"""What a swap costs with and without saved prompt caches: `python tests/benchmarks/kv.py`.

Conversations that share a long system prompt talk to model A in turns; before each round model B evicts it.
The same turns run three times: without any swap (a slot for each conversation), with swaps and the cache,
and with swaps but without it. Figures are the engine's own (`prompt_n`, `cache_n`); the models are noise, so
that answers differ where the cache is wrong.

`--exact N` compares the answers of N conversations over two swaps, with f16 caches at temperature 0, with
those of a run without swaps. `--swaps N` is a random workload that watches the disk.
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
    evicting_s: list[float]


def opening(tokens: int, name: str = "") -> list[dict[str, str]]:
    """Return a system prompt of about so many tokens; with a name it is nobody else's."""
    text = name + "".join(SENTENCE.format(n, n * 7919 % 1000) for n in range(tokens // 24))
    return [{"role": "system", "content": text}]


async def run(name: str, options: argparse.Namespace, models: Path, rounds: int, kv_gb: float) -> Run:
    """Run the conversations; without any eviction where `kv_gb` is negative."""
    about = {"ctx": options.tokens * 3 // 2, "threads": options.threads, "kv_gb": max(0, kv_gb)}
    slots = options.conversations if kv_gb < 0 else 2
    turns, evicting = [], []
    with tempfile.TemporaryDirectory() as work_dir:
        async with swapping(Path(work_dir), models, parallel=slots, **about) as swapper:
            talks = [Talk(f"c{n}", opening(options.tokens)) for n in range(options.conversations)]
            for number in range(rounds + 1):
                said = [
                    await talk.turn(swapper, f"{talk.session}, step {number}?", stream=number % 2 == 1)
                    for talk in talks
                ]
                turns.append(said)
                print(f"  {name}, round {number}: {[(t.prompt_n, t.kv) for t in said]}", flush=True)
                if kv_gb >= 0 and number < rounds:
                    began = time.monotonic()
                    await Talk("b").turn(swapper, "Something else?", tier="b")
                    evicting.append(time.monotonic() - began)
    return Run(name, turns, evicting)


def show(runs: list[Run]) -> None:
    straight = runs[0]
    print(f"{'':24} {'prompt_n':>16} {'furthest off':>13} {'s per turn':>11} {'s to evict, load B, ask':>24}")
    for one in runs:
        later = [turn for said in one.turns[1:] for turn in said]
        off = max(
            abs(turn.prompt_n - twin.prompt_n)
            for said, twins in zip(one.turns[1:], straight.turns[1:], strict=False)
            for turn, twin in zip(said, twins, strict=True)
        )
        read = [turn.prompt_n for turn in later]
        wall = statistics.median(turn.wall_s for turn in later)
        evicting = f"{statistics.median(one.evicting_s):.2f}" if one.evicting_s else "-"
        print(f"{one.name:24} {f'{min(read)}-{max(read)}':>16} {off:>13} {wall:>11.2f} {evicting:>24}")
    first = statistics.median(turn.wall_s for turn in straight.turns[0])
    print(f"the first turn of a conversation, which reads all of it: {first:.2f} s")


async def alternate(options: argparse.Namespace, models: Path) -> None:
    cold = min(options.cold_rounds, options.rounds)
    print(
        f"{options.conversations} conversations that share {options.tokens} tokens;"
        f" a model {options.dim} wide, {options.layers} layers.\n"
        f"{options.rounds} rounds without a swap, as many with swaps, {cold} with swaps and nothing saved.",
        flush=True,
    )
    straight = await run("no swap", options, models, options.rounds, -1)
    reads = options.conversations * (cold + 1)  # what is shared is read once where it is kept
    about = reads * max(turn.wall_s for turn in straight.turns[0]) / 60
    print(
        f"the rounds without the cache will take about {about:.0f} min; --cold-rounds says how many",
        flush=True,
    )
    saved = await run("swaps, caches saved", options, models, options.rounds, 8)
    show([straight, saved, await run("swaps, nothing saved", options, models, cold, 0)])


async def exact(options: argparse.Namespace, models: Path) -> None:
    """Compare answers token for token.

    Nothing is shared here: a conversation that finds the beginning of another one in its slot reads less at
    once, and rounds differently, with any server and without swaps too.
    """

    async def answers(*, swaps: bool) -> list[list[str]]:
        with tempfile.TemporaryDirectory() as work_dir:
            slots = 2 if swaps else options.exact
            about = {"ctx": 2048, "threads": options.threads, "parallel": slots}
            async with swapping(Path(work_dir), models, **about) as swapper:
                talks = [Talk(f"c{n}", opening(600, f"Agent {n}. ")) for n in range(options.exact)]
                said: list[list[str]] = [[] for _ in talks]
                for number in range(3):
                    for talk, words in zip(talks, said, strict=True):
                        turn = await talk.turn(
                            swapper, f"{talk.session}, step {number}?", tokens=24, logprobs=False
                        )
                        assert turn.kv.startswith("restored") == (swaps and number > 0), turn
                        words.append(turn.answer)
                    if swaps:
                        await swapper.load("b")
                return said

    swapped, straight = await answers(swaps=True), await answers(swaps=False)
    same = sum(a == b for a, b in zip(swapped, straight, strict=True))
    distinct = len({answer for said in straight for answer in said})
    print(f"{same} of {options.exact} conversations answered the same ({distinct} different answers)")


async def workload(options: argparse.Namespace, models: Path) -> None:
    """Swap at random, with a budget that holds a few conversations, and watch the disk."""
    chance = random.Random(4)  # noqa: S311 - not for secrets
    budget_gb, most, restored = 0.02, 0, 0
    with tempfile.TemporaryDirectory() as work_dir:
        files = PromptCacheFiles(Path(work_dir) / "kv", 0)
        async with swapping(
            Path(work_dir), models, ctx=4096, threads=options.threads, kv_gb=budget_gb
        ) as swapper:
            for number in range(options.swaps):
                session = f"c{chance.randrange(12)}"
                talk = Talk(session, opening(chance.choice((400, 800, 1600))))
                turn = await talk.turn(swapper, f"{number}?", tokens=2)
                restored += turn.kv.startswith("restored")
                await swapper.load("b")
                most = max(most, files.total_bytes())
                assert most <= budget_gb * GB, (number, most)
                if number % 50 == 0:
                    print(
                        f"  swap {number}: {files.total_bytes() / 1e6:.1f} MB, {restored} restored",
                        flush=True,
                    )
        print(
            f"{options.swaps} swaps: at most {most / 1e6:.1f} MB of {budget_gb * GB / 1e6:.1f} MB,"
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
