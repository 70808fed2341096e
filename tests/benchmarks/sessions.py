"""What sessions cost under a routing policy: `PYTHONPATH=.:tests python -m benchmarks.sessions`.

Replays the traces of session_traces.py on a simulated machine: which models are loaded, and what their
prompt caches hold. Nothing is served; all figures are tokens and counts, and the same on every machine.
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
# Real tokens of each tier's tokenizer for one estimated token.
TRUE_FACTORS = {"fast": 1.10, "agent": 0.95, "ultra": 1.25}


@dataclass(frozen=True, slots=True)
class Stack:
    """Tiers, and how many models fit into memory besides the fast one."""

    config: StackConfig
    heavy_models: int


def _make_stack(heavy_models: int, *, ultra: str) -> Stack:
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
    return Stack(StackConfig(Settings(), Routing(), {tier.name: tier for tier in tiers}), heavy_models)


STACKS = {
    "no ultra": _make_stack(1, ultra=""),
    "hosted ultra": _make_stack(1, ultra="hosted"),
    "local ultra, room for one": _make_stack(1, ultra="local"),
    "local ultra, room for two": _make_stack(2, ultra="local"),
}


class Policy(Protocol):
    """Chooses a tier for each request."""

    def choose(self, step: Step, loaded: frozenset[str]) -> str | None:
        """Return the tier; None if the request fits into none."""

    def served(self, step: Step, tier: str, prompt: int) -> None:
        """Learn how many prompt tokens the server counted."""


@dataclass
class PlainLadder:
    """The ladder: each request is routed on its own."""

    stack: Stack

    def choose(self, step: Step, loaded: frozenset[str]) -> str | None:  # noqa: ARG002 - of the Protocol
        try:
            return decide_by_ladder(step.facts, self.stack.config, StackState()).tier
        except ContextOverflowError:
            return None

    def served(self, step: Step, tier: str, prompt: int) -> None:
        pass


@dataclass
class SessionPolicy:
    """The router's policy, with its sessions and its measured token factors."""

    stack: Stack
    now: float = 0.0
    sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self.sessions = Sessions(clock=lambda: self.now)

    def choose(self, step: Step, loaded: frozenset[str]) -> str | None:
        self.now = step.at
        key = self.sessions.find_key(step.session, step.opening, step.facts)
        heavy = {name for name in loaded if name != "fast"}
        full = len(heavy) >= self.stack.heavy_models
        evicting = {
            tier.name
            for tier in self.stack.config.tiers.values()
            if full and tier.backend is BackendKind.GGUF and tier.name not in loaded
        }
        state = StackState(
            loaded=loaded,
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
    """The result of a replay.

    Attributes:
        switches: requests at another tier than the conversation's last one.
        pending: switches with a tool result pending; `forced` those that the last tier could not hold.
        again: prompt tokens that were sent before and are read again, because of a switch or an eviction;
            `displaced` those because another conversation used the slot.
        too_large: requests sent to a tier that cannot hold them.
        weaker: requests at a weaker tier than the ladder's, although that one can hold them.
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

    llama.cpp keeps the last conversations in slots, and displaced ones in RAM, limited by `cache_ram_gb`.
    A provider keeps everything for five minutes.
    """

    hosted: bool
    held: dict[str, tuple[float, tuple[Piece, ...]]] = field(default_factory=dict)  # oldest first

    def read(self, step: Step) -> int:
        """Return how many tokens are cached, and cache the prompt."""
        if self.hosted:
            self.held = {talk: kept for talk, kept in self.held.items() if step.at - kept[0] <= CACHE_LIFE_S}
        _, kept = self.held.pop(step.talk, (0.0, ()))
        self.held[step.talk] = step.at, step.prompt
        if not self.hosted:
            self._forget()
        return shared(kept, step.prompt)

    def _forget(self) -> None:
        free_tokens = CACHE_RAM
        for talk, (_, prompt) in list(reversed(self.held.items()))[SLOTS:]:
            free_tokens -= size(prompt)
            if free_tokens < 0:
                del self.held[talk]


def size(prompt: tuple[Piece, ...]) -> int:
    """Return the tokens of a prompt."""
    return sum(piece.tokens for piece in prompt)


def shared(one: tuple[Piece, ...], other: tuple[Piece, ...]) -> int:
    """Return the tokens of the common prefix of two prompts."""
    total = 0
    for piece, other_piece in zip(one, other, strict=False):
        if piece != other_piece:
            break
        total += piece.tokens
    return total


@dataclass
class Machine:
    """Which models are loaded, and what their caches hold."""

    stack: Stack
    caches: dict[str, Caches] = field(default_factory=dict)
    used: dict[str, float] = field(default_factory=dict)
    loads: Counter[str] = field(default_factory=Counter)

    @property
    def loaded(self) -> frozenset[str]:
        return frozenset({"fast", *self.used})

    def serve(self, tier: Tier, step: Step) -> int:
        """Serve one request; return how many of its tokens were cached."""
        if tier.backend is BackendKind.GGUF and tier.role is not Role.FAST:
            if tier.name not in self.used:
                self.loads[tier.name] += 1
                while len(self.used) >= self.stack.heavy_models:
                    victim = min(self.used, key=lambda name: self.used[name])
                    del self.used[victim], self.caches[victim]
            self.used[tier.name] = step.at
        caches = self.caches.setdefault(tier.name, Caches(tier.backend is not BackendKind.GGUF))
        return caches.read(step)


def replay(steps: list[Step], stack: Stack, policy: Policy) -> Counts:
    """Replay one trace and return its counts."""
    machine, ladder = Machine(stack), PlainLadder(stack)
    last: dict[str, tuple[str, int, tuple[Piece, ...]]] = {}
    total: Counter[str] = Counter()
    tiers: Counter[str] = Counter()
    for step in steps:
        total["requests"] += 1
        name = policy.choose(step, machine.loaded)
        if name is None:
            total["refused"] += 1
            continue
        tier, ladder_tier = stack.config.tiers[name], ladder.choose(step, frozenset())
        tiers[name] += 1
        prompt = int(step.facts.context_tokens * TRUE_FACTORS[name])
        total["too_large"] += not _holds(stack, name, step)
        fit = ladder_tier is not None and _holds(stack, ladder_tier, step)
        total["weaker"] += (
            fit and ladder_tier is not None and _strength(stack, name) < _strength(stack, ladder_tier)
        )
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
    """Return the sum of two results."""
    names = [each.name for each in fields(Counts) if each.name != "tiers"]
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return replace(one, **sums, tiers=Counter(one.tiers) + Counter(other.tiers))


def total(stack: Stack, create_policy: Callable[[Stack], Policy], seeds: tuple[int, ...] = SEEDS) -> Counts:
    """Return the sum over all traces."""
    counts = Counts()
    for seed in seeds:
        counts = add(counts, replay(trace(seed), stack, create_policy(stack)))
    return counts


def main() -> None:
    """Print a table."""
    print(f"{len(SEEDS)} traces")
    for name, stack in STACKS.items():
        print(f"\n{name}")
        show("ladder", total(stack, PlainLadder))
        show("session", total(stack, SessionPolicy))


def show(name: str, counts: Counts) -> None:
    """Print one line of the table."""
    values = {each.name: getattr(counts, each.name) for each in fields(counts) if each.name != "tiers"}
    values["reread"] = counts.again + counts.displaced
    print(
        f"  {name:8}", *(f"{key} {value:,}" for key, value in (values | dict(counts.tiers)).items()), sep="  "
    )


if __name__ == "__main__":
    main()
