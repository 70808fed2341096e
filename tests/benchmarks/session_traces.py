"""Simulated sessions of coding agents, from fixed seeds: sizes and times of requests, without text."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

from llmstack.policy.facts import RequestFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

SEEDS = tuple(range(101, 113))
SYSTEM, SCHEMAS = 2_400, 5_200  # tokens of opencode's system prompt and tools (facts: 30.8 KB a request)
ANSWER = 4_096
HUMAN, CALL = (20, 600), (60, 400)  # tokens, smallest and largest
COMPACT_AT = (56_000, 110_000)  # tokens at which the client compacts; depends on the window that it assumes


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a prompt. Two prompts have a common prefix as long as their pieces are equal."""

    id: int
    tokens: int
    schema: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One request.

    Attributes:
        at: seconds.
        session: from the client's header; empty if it sends none.
        opening: fingerprint of the system prompt and the first words.
        talk: the conversation that it really belongs to.
    """

    at: float
    session: str
    opening: str
    talk: str
    facts: RequestFacts
    prompt: tuple[Piece, ...]


@dataclass
class Talk:
    """One conversation as it grows."""

    name: str
    session: str
    rng: random.Random
    ids: Iterator[int]
    tools: bool
    at: float
    turns: int = 0
    words: str = ""
    opening: str = ""
    pieces: list[Piece] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Restart the conversation with only the system prompt."""
        system = SYSTEM if self.tools else 300
        self.pieces = [Piece(-1 if self.tools else -2, system)]
        if self.tools:
            self.pieces.insert(0, Piece(-3, SCHEMAS, schema=True))
        self.turns, self.opening = 0, f"{self.name}:{next(self.ids)}"

    def add(self, low: int, high: int) -> None:
        size = int(low * (high / low) ** self.rng.random())  # many small pieces, few large ones
        self.pieces.append(Piece(next(self.ids), size))

    def add_user_turn(self, low: int = HUMAN[0], high: int = HUMAN[1], words: str = "go on") -> None:
        self.add(low, high)
        self.turns, self.words = self.turns + 1, words

    def request(self, *, pending: bool = False, output: int = ANSWER) -> Step:
        text = sum(piece.tokens for piece in self.pieces if not piece.schema)
        facts = RequestFacts(
            conversation_tokens=text,
            context_tokens=sum(piece.tokens for piece in self.pieces),
            user_turns=self.turns,
            tool_result_pending=pending,
            last_words=self.words,
            output_tokens=output,
            tools=self.tools,
        )
        return Step(self.at, self.session, self.opening, self.name, facts, tuple(self.pieces))

    @property
    def size(self) -> int:
        return sum(piece.tokens for piece in self.pieces)


def trace(seed: int) -> list[Step]:
    """Return the requests of one afternoon with two projects, in the order they arrive."""
    rng, ids = random.Random(seed), count(1)  # noqa: S311 - not for secrets
    steps: list[Step] = []
    for project in ("a", "b"):
        at = rng.uniform(0, 600)
        for number in range(rng.randint(2, 4)):
            kind = _chat if rng.random() < 0.25 else _agent
            steps_of_talk = list(kind(f"{project}{number}", rng, ids, at))
            steps += steps_of_talk
            at = steps_of_talk[-1].at + rng.uniform(30, 1_500)
    return sorted(steps, key=lambda step: step.at)


def _agent(name: str, rng: random.Random, ids: Iterator[int], at: float) -> Iterator[Step]:
    """Yield an agent's requests: tool loops, a title, sub-agents, compaction, pruning, new topics, pauses."""
    header = f"ses_{name}" if rng.random() < 0.7 else ""
    talk = Talk(name, header, rng, ids, tools=True, at=at)
    compact_at, parts = rng.choice(COMPACT_AT), 0
    for turn in range(rng.randint(4, 14)):
        talk.at += rng.uniform(1_800, 5_400) if rng.random() < 0.08 else rng.uniform(8, 150)
        if turn and rng.random() < 0.08:  # `/new`: another topic, although some clients keep their session id
            talk.restart()
        _shrink(talk, compact_at, rng)
        talk.add_user_turn(words="[ultra] think" if rng.random() < 0.07 else "go on")
        yield talk.request()
        if turn == 0:
            yield _title(talk, ids)
        for _ in range(rng.choice((0, 1, 2, 3, 5, 8, 12))):
            talk.at += rng.uniform(2, 20)
            talk.add(*CALL)
            if rng.random() < 0.06:
                parts += 1
                child_session = f"ses_{name}_{parts}" if header and rng.random() < 0.5 else header
                yield from (child := list(_sub_agent(f"{name}.{parts}", child_session, rng, ids, talk.at)))
                talk.at = child[-1].at + rng.uniform(1, 8)
            talk.add(60, 5_000)
            yield talk.request(pending=True)
        talk.add(*CALL)


def _shrink(talk: Talk, compact_at: int, rng: random.Random) -> None:
    if talk.size > compact_at:  # a summary in place of everything
        talk.pieces = [*talk.pieces[:2]]
        talk.add(800, 2_500)
        talk.turns = 1
        if rng.random() < 0.5:  # some clients start with the summary, others keep the first words
            talk.opening = f"{talk.name}:{next(talk.ids)}"
    elif talk.size > 0.6 * compact_at and rng.random() < 0.3:  # old tool results are blanked
        half = len(talk.pieces) // 2
        old = [
            replace(piece, id=next(talk.ids), tokens=min(piece.tokens, 300)) for piece in talk.pieces[2:half]
        ]
        talk.pieces[2:half] = old


def _title(talk: Talk, ids: Iterator[int]) -> Step:
    """Return the request for a title: the same session id, another system prompt, no tools."""
    pieces = (Piece(-4, 400), talk.pieces[-1])
    size = sum(piece.tokens for piece in pieces)
    facts = RequestFacts(size, size, 1, tool_result_pending=False, last_words=talk.words, output_tokens=100)
    return Step(talk.at + 0.1, talk.session, f"title:{next(ids)}", f"{talk.name}/title", facts, pieces)


def _sub_agent(name: str, session: str, rng: random.Random, ids: Iterator[int], at: float) -> Iterator[Step]:
    """Yield the requests of a sub-agent, with its own conversation and its own or its parent's session id."""
    talk = Talk(name, session, rng, ids, tools=True, at=at)
    talk.add_user_turn(200, 1_500, "look into it")
    yield talk.request()
    for _ in range(rng.randint(1, 8)):
        talk.at += rng.uniform(2, 12)
        talk.add(*CALL)
        talk.add(100, 4_000)
        yield talk.request(pending=True)


def _chat(name: str, rng: random.Random, ids: Iterator[int], at: float) -> Iterator[Step]:
    """Yield the requests of a person in a chat window: no tools, sometimes a long pasted text first."""
    talk = Talk(name, "", rng, ids, tools=False, at=at)
    if rng.random() < 0.5:
        talk.add(8_000, 60_000)
    for _ in range(rng.randint(2, 14)):
        talk.add_user_turn(words="ultra: think" if rng.random() < 0.05 else "and then?")
        yield talk.request(output=2_048)
        talk.add(100, 1_200)
        talk.at += rng.uniform(1_800, 4_000) if rng.random() < 0.05 else rng.uniform(20, 200)
