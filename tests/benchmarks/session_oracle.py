"""What the best possible policy reads again: `PYTHONPATH=.:tests python -m benchmarks.session_oracle`.

It knows the whole trace in advance, and obeys the rules of the session policy: no tier weaker than the
ladder's, no request to a tier that cannot hold it, no switch while a tool result is pending unless it is
forced. It may ignore ceilings, except that with `thrifty` it leaves a hosted tier for a local one at the
second ceiling, as the policy does. A beam search finds a result that is possible with hindsight: the rest of
a figure is due to the policy.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from benchmarks.session_traces import SEEDS, Piece, trace
from benchmarks.sessions import (
    STACKS,
    Caches,
    Machine,
    PlainLadder,
    Stack,
    _holds,
    _strength,
    shared,
    total,
)

if TYPE_CHECKING:
    from benchmarks.session_traces import Step

WIDTH = 10  # 300 finds 5 % less over all stacks


@dataclass(slots=True)
class Path:
    """One way to have served the requests so far.

    Attributes:
        last: of each conversation: its tier, the load of that tier, its prompt.
    """

    machine: Machine
    again: int = 0
    displaced: int = 0
    last: dict[str, tuple[str, int, tuple[Piece, ...]]] = field(default_factory=dict)

    def served(self, step: Step, name: str) -> Path:
        """Return the path with one more request."""
        machine = _copy(self.machine, name)
        before, loaded, earlier = self.last.get(step.talk, (name, 0, ()))
        cached = machine.serve(machine.stack.config.tiers[name], step)
        load = machine.loads[name]
        missed = max(0, shared(earlier, step.prompt) - cached)
        same = (before, loaded) == (name, load)
        last = self.last | {step.talk: (name, load, step.prompt)}
        return Path(machine, self.again + missed * (not same), self.displaced + missed * same, last)

    def state(self) -> object:
        """Return the part of the state that later costs depend on."""
        machine = self.machine
        caches = tuple(
            (name, *((talk, at) for talk, (at, _) in one.held.items())) for name, one in _sorted(machine)
        )
        talks = tuple(
            (talk, name, machine.loads[name] == load) for talk, (name, load, _) in self.last.items()
        )
        return tuple(sorted(machine.used, key=lambda name: machine.used[name])), caches, tuple(sorted(talks))


def _sorted(machine: Machine) -> list[tuple[str, Caches]]:
    return sorted(machine.caches.items())


def _copy(machine: Machine, name: str) -> Machine:
    caches = dict(machine.caches)
    if name in caches:
        caches[name] = replace(caches[name], held=dict(caches[name].held))
    return replace(machine, caches=caches, used=dict(machine.used), loads=machine.loads.copy())


def _allowed(step: Step, path: Path, stack: Stack, ladder_tier: str | None, *, thrifty: bool) -> list[str]:
    """Return the tiers that the rules allow for a request."""
    before = path.last.get(step.talk)
    if before and step.facts.tool_result_pending and _holds(stack, before[0], step):
        return [before[0]]
    usable = [name for name in stack.config.tiers if _holds(stack, name, step)]
    if ladder_tier in usable:
        usable = [name for name in usable if _strength(stack, name) >= _strength(stack, ladder_tier)]
    if thrifty and step.facts.conversation_tokens > stack.config.routing.mid_fidelity_ceiling:
        return [name for name in usable if not stack.config.tiers[name].hosted] or usable
    return usable


def best(steps: list[Step], stack: Stack, width: int = WIDTH, *, thrifty: bool = False) -> Path:
    """Return the path through a trace that reads fewest tokens again because of switches and evictions."""
    paths, ladder = [Path(Machine(stack))], PlainLadder(stack)
    ends = {step.talk: number for number, step in enumerate(steps)}
    for number, step in enumerate(steps):
        ladder_tier, best_by_state = ladder.choose(step, frozenset()), dict[object, Path]()
        for path in paths:
            for name in _allowed(step, path, stack, ladder_tier, thrifty=thrifty):
                new = path.served(step, name)
                if ends[step.talk] == number:
                    del new.last[step.talk]
                state = new.state()
                if state not in best_by_state or _cost(new) < _cost(best_by_state[state]):
                    best_by_state[state] = new
        paths = sorted(best_by_state.values(), key=_cost)[:width]
    return paths[0]


def _cost(path: Path) -> tuple[int, int]:
    return path.again, path.displaced


def main(width: int) -> None:
    """Print a line for each stack, and the total compared with the plain ladder's."""
    ladder = sum(total(stack, PlainLadder).again for stack in STACKS.values())
    for thrifty in (False, True):
        print("thrifty" if thrifty else "at any price")
        everything = 0
        for name, stack in STACKS.items():
            paths = [best(trace(seed), stack, width, thrifty=thrifty) for seed in SEEDS]
            again, displaced = sum(path.again for path in paths), sum(path.displaced for path in paths)
            print(f"  {name:26}  again {again:,}  displaced {displaced:,}")
            everything += again
        print(f"  all of them: {everything / ladder - 1:.1%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else WIDTH)
