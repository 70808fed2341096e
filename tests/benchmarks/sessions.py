"""What sessions cost under a routing policy: `PYTHONPATH=.:tests python -m benchmarks.sessions`.

Replays the traces of session_traces.py against a model of the machine: which models are resident, and what
their prompt caches hold. Nothing is served; all figures are tokens and counts, the same on every machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.session_traces import SEEDS, Piece, Step, trace

from llmstack.config.model import (
    BackendKind,
    GgufModel,
    HostedModel,
    Role,
    Routing,
    Settings,
    StackConfig,
    Tier,
)
from llmstack.policy.decision import ContextOverflowError, StackState
from llmstack.policy.ladder import decide_by_ladder
from llmstack.policy.session_policy import decide
from llmstack.router.sessions import Sessions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

SLOTS = 2  # `parallel` of the default profile
CACHE_RAM = 20_000  # tokens in its `cache_ram_gb = 1`, at 50 KB a token
CACHE_LIFE_S = 300.0  # of a hosted provider's prompt cache
STRENGTH = {Role.FAST: 0, Role.AGENT: 1, Role.ULTRA: 2}
# Tokens that a tier's tokenizer makes of one estimated token: what the estimate misses.
TRUE_FACTORS = {"fast": 1.10, "agent": 0.95, "ultra": 1.25}


@dataclass(frozen=True, slots=True)
class Stack:
    """Tiers, and how many models memory holds beside the fast one."""

    config: StackConfig
    beside_fast: int


def _stack(beside_fast: int, *, ultra: str) -> Stack:
    local = GgufModel(path=Path("x.gguf"))
    tiers = [
        Tier("fast", BackendKind.GGUF, local, 131_072, role=Role.FAST),
        Tier("agent", BackendKind.GGUF, local, 65_536, role=Role.AGENT),
    ]
    if ultra == "local":
        tiers.append(Tier("ultra", BackendKind.GGUF, local, 65_536, role=Role.ULTRA))
    elif ultra == "hosted":
        tiers.append(
            Tier("ultra", BackendKind.LITELLM, HostedModel("anthropic", "x"), 200_000, role=Role.ULTRA)
        )
    return Stack(StackConfig(Settings(), Routing(), {tier.name: tier for tier in tiers}), beside_fast)


STACKS = {
    "no ultra": _stack(1, ultra=""),
    "hosted ultra": _stack(1, ultra="hosted"),
    "local ultra, room for one": _stack(1, ultra="local"),
    "local ultra, room for two": _stack(2, ultra="local"),
}


class Policy(Protocol):
    """Chooses a tier for each request."""

    def choose(self, step: Step, resident: frozenset[str]) -> str | None:
        """Return the tier; None where it says that none holds the request."""

    def served(self, step: Step, tier: str, prompt: int) -> None:
        """Learn what the server counted."""


@dataclass
class PlainLadder:
    """The base policy, each request for itself."""

    stack: Stack

    def choose(self, step: Step, resident: frozenset[str]) -> str | None:  # noqa: ARG002 - of the Protocol
        try:
            return decide_by_ladder(step.facts, self.stack.config, StackState()).tier
        except ContextOverflowError:
            return None

    def served(self, step: Step, tier: str, prompt: int) -> None:
        pass


@dataclass
class SessionPolicy:
    """The policy as the router has it: with its store of sessions and what the tiers' tokens measure."""

    stack: Stack
    now: float = 0.0
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(clock=lambda: self.now)

    def choose(self, step: Step, resident: frozenset[str]) -> str | None:
        self.now = step.at
        key = self.sessions.find_key(step.session, step.opening, step.facts)
        heavy = {name for name in resident if name != "fast"}
        full = len(heavy) >= self.stack.beside_fast
        evicting = {
            tier.name
            for tier in self.stack.config.tiers.values()
            if full and tier.backend is BackendKind.GGUF and tier.name not in resident
        }
        state = StackState(
            loaded=resident,
            evicting=frozenset(evicting),
            factors=self.sessions.factors,
        )
        try:
            decision = decide(step.facts, self.stack.config, state, self.sessions.get(key), step.at)
        except ContextOverflowError:
            return None
        self.sessions.remember(key, step.facts, decision)
        return decision.tier

    def served(self, step: Step, tier: str, prompt: int) -> None:
        self.sessions.observe(tier, step.facts.context_tokens, prompt)


@dataclass(frozen=True, slots=True)
class Counts:
    """What a replay came to.

    Attributes:
        switches: requests of a conversation at another tier than its last one.
        pending: of them, those with a tool result pending; `forced` where the tier before cannot hold it.
    again: prompt tokens that the conversation had sent before, and that are read again because it was
            switched or the model was evicted; `displaced` because other conversations took its slot.
        too_large: requests sent to a tier that cannot hold them.
        weaker: requests at a weaker tier than the ladder's, where that one holds them.
        loads: models loaded.
    """

    requests: int = 0
    switches: int = 0
    pending: int = 0
    forced: int = 0
    again: int = 0
    displaced: int = 0
    too_large: int = 0
    refused: int = 0
    weaker: int = 0
    loads: int = 0
    tiers: Mapping[str, int] = field(default_factory=dict)


@dataclass
class Caches:
    """The prompt caches of one tier, by conversation.

    llama.cpp: a slot for each of the last conversations, and what is displaced from there for as long as
    `cache_ram_gb` holds it. A provider: everything, for five minutes.
    """

    hosted: bool
    held: dict[str, tuple[float, tuple[Piece, ...]]] = field(default_factory=dict)  # oldest first

    def read(self, step: Step) -> int:
        """Return how many tokens are found; the prompt is kept from now on."""
        if self.hosted:
            self.held = {talk: kept for talk, kept in self.held.items() if step.at - kept[0] <= CACHE_LIFE_S}
        _, kept = self.held.pop(step.talk, (0.0, ()))
        self.held[step.talk] = step.at, step.prompt
        if not self.hosted:
            self._forget()
        return shared(kept, step.prompt)

    def _forget(self) -> None:
        room = CACHE_RAM
        for talk, (_, prompt) in list(reversed(self.held.items()))[SLOTS:]:
            room -= size(prompt)
            if room < 0:
                del self.held[talk]


def size(prompt: tuple[Piece, ...]) -> int:
    """Return the tokens of a prompt."""
    return sum(piece.tokens for piece in prompt)


def shared(one: tuple[Piece, ...], other: tuple[Piece, ...]) -> int:
    """Return the tokens that two prompts begin with in common."""
    total = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        total += left.tokens
    return total


@dataclass
class Machine:
    """Which models are resident, and what their caches hold."""

    stack: Stack
    caches: dict[str, Caches] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    loads: Counter[str] = field(default_factory=Counter)

    @property
    def resident(self) -> frozenset[str]:
        return frozenset({"fast", *self.used})

    def serve(self, tier: Tier, step: Step) -> int:
        """Serve one request; return the tokens found in a cache."""
        if tier.backend is BackendKind.GGUF and tier.role is not Role.FAST:
            if tier.name not in self.used:
                self.loads[tier.name] += 1
                while len(self.used) >= self.stack.beside_fast:
                    gone = min(self.used, key=lambda name: self.used[name])
                    del self.used[gone], self.caches[gone]
            self.used[tier.name] = step.at
        caches = self.caches.setdefault(tier.name, Caches(tier.backend is not BackendKind.GGUF))
        return caches.read(step)


def replay(steps: list[Step], stack: Stack, policy: Policy) -> Counts:
    """Return what one trace comes to."""
    machine, ladder = Machine(stack), PlainLadder(stack)
    last: dict[str, tuple[str, int, tuple[Piece, ...]]] = {}
    total: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    for step in steps:
        total["requests"] += 1
        name = policy.choose(step, machine.resident)
        if name is None:
            total["refused"] += 1
            continue
        tier, plain = stack.config.tiers[name], ladder.choose(step, frozenset())
        tiers[name] += 1
        prompt = int(step.facts.context_tokens * TRUE_FACTORS[name])
        total["too_large"] += not _holds(stack, name, step)
        fit = plain is not None and _holds(stack, plain, step)
        total["weaker"] += fit and plain is not None and _strength(stack, name) < _strength(stack, plain)
        before, loaded, earlier = last.get(step.talk, (name, 0, ()))
        total["switches"] += before != name
        if before != name and step.facts.tool_result_pending:
            total["pending" if _holds(stack, before, step) else "forced"] += 1
        missed = max(0, shared(earlier, step.prompt) - machine.serve(tier, step))
        cause = "displaced" if (before, loaded) == (name, machine.loads[name]) else "again"
        total[cause] += missed
        last[step.talk] = (name, machine.loads[name], step.prompt)
        policy.served(step, name, prompt)
    return Counts(**total, loads=machine.loads.total(), tiers=tiers)


def _holds(stack: Stack, name: str, step: Step) -> bool:
    prompt = int(step.facts.context_tokens * TRUE_FACTORS[name])
    return prompt + step.facts.output_tokens <= stack.config.tiers[name].ctx_size


def _strength(stack: Stack, name: str) -> int:
    role = stack.config.tiers[name].role
    return STRENGTH[role] if role else 0


def add(one: Counts, other: Counts) -> Counts:
    """Return the sum of two."""
    names = [each.name for each in fields(Counts) if each.name != "tiers"]
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return replace(one, **sums, tiers=Counter(one.tiers) + Counter(other.tiers))


def total(stack: Stack, make: Callable[[Stack], Policy], seeds: tuple[int, ...] = SEEDS) -> Counts:
    """Return the sum over all traces."""
    counts = Counts()
    for seed in seeds:
        counts = add(counts, replay(trace(seed), stack, make(stack)))
    return counts


def main() -> None:
    """Print a table."""
    print(f"{len(SEEDS)} traces")
    for name, stack in STACKS.items():
        print(f"\n{name}")
        show("ladder", total(stack, PlainLadder))
        show("session", total(stack, SessionPolicy))


def show(name: str, counts: Counts) -> None:
    """Print one line of it."""
    about = {each.name: getattr(counts, each.name) for each in fields(counts) if each.name != "tiers"}
    about["reread"] = counts.again + counts.displaced
    print(
        f"  {name:8}", *(f"{key} {value:,}" for key, value in (about | dict(counts.tiers)).items()), sep="  "
    )


if __name__ == "__main__":
    main()
