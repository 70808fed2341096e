"""Which tiers may live together, and whom to evict. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmstack.serving.memory.footprint import Footprint

GB = 1024**3
PRELOADED_COST = 1_000_000  # evicted last: more than all other tiers together
COST_UNITS = 1000
MAX_SETS = 200
MAX_TRIES = 2000


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What may be resident together.

    Attributes:
        budget: bytes for all resident models together.
        needs: bytes per tier.
        costs: what evicting a tier costs, compared with the others; by default its size.
        advice: for a tier larger than the budget, how to raise it.
    """

    budget: int
    needs: Mapping[str, int]
    costs: Mapping[str, float]
    advice: Mapping[str, str] = field(default_factory=dict)

    def fits(self, tiers: Collection[str]) -> bool:
        """Return whether these may live together; one alone always may."""
        return len(tiers) <= 1 or sum(self.needs[tier] for tier in tiers) <= self.budget

    def evicting(self, resident: Collection[str]) -> frozenset[str]:
        """Return the tiers that cannot be loaded beside these without unloading another one."""
        holding = self.needs.keys() & resident
        return frozenset(name for name in self.needs if not self.fits(holding | {name}))

    def exceeds(self, tier: str) -> bool:
        """Return whether a tier is larger than the whole budget (it is still loaded, by itself)."""
        return self.needs[tier] > self.budget

    def sets(self) -> list[tuple[str, ...]]:
        """Return the largest combinations that may live together, in declaration order, 200 at most."""
        names = list(self.needs)
        found: list[tuple[str, ...]] = [(name,) for name in names if self.exceeds(name)]
        small = [name for name in names if not self.exceeds(name)]
        after = [sum(self.needs[name] for name in small[number:]) for number in range(len(small) + 1)]

        def extend(chosen: tuple[str, ...], number: int, room: int, smallest_left_out: float) -> None:
            if len(found) >= MAX_SETS or room - after[number] >= smallest_left_out:
                return  # whatever else is chosen, something left out would still fit
            if number == len(small):
                found.append(chosen)
                return
            name = small[number]
            need = self.needs[name]
            if need <= room:
                extend((*chosen, name), number + 1, room - need, smallest_left_out)
            extend(chosen, number + 1, room, min(smallest_left_out, need))

        if small:
            extend((), 0, self.budget, float("inf"))
        return sorted(found, key=lambda combination: [names.index(name) for name in combination])

    def victims(
        self, resident: Collection[str], wanted: str, evictable: Mapping[str, float]
    ) -> frozenset[str] | None:
        """Return the cheapest tiers to stop so that `wanted` fits, or None where no choice makes room.

        What their conversations take to bring back does not count: saved, that is little beside the load,
        and when a tier was last used says better whether it will be wanted soon.

        Args:
            resident: tiers that hold memory now.
            wanted: the tier to make room for.
            evictable: those of them that may be stopped, with when each was last used; among equally
                cheap choices the one used longest ago goes.
        """
        if self.fits({*resident, wanted}):
            return frozenset()
        others = [tier for tier in resident if tier != wanted]
        if self.exceeds(wanted):
            return frozenset(others) if all(tier in evictable for tier in others) else None
        missing = sum(self.needs[tier] for tier in others) + self.needs[wanted] - self.budget
        return self._cheapest(missing, {tier: used for tier, used in evictable.items() if tier in others})

    def _cheapest(self, missing: int, evictable: Mapping[str, float]) -> frozenset[str] | None:
        """Return the cheapest choice that frees `missing` bytes.

        It leaves out what cannot become the best, and ends after MAX_TRIES (some milliseconds): with very
        many tiers the choice may be a good one only.
        """
        # Whole numbers: sums of the same costs are the same in any order.
        costs = {tier: round(self.costs[tier] * COST_UNITS) for tier in evictable}
        tiers = sorted(evictable, key=lambda tier: (costs[tier] / max(1, self.needs[tier]), evictable[tier]))
        after = [sum(self.needs[tier] for tier in tiers[number:]) for number in range(len(tiers) + 1)]
        best: tuple[int, float, tuple[str, ...]] | None = None
        tries = 0

        def choose(chosen: tuple[str, ...], number: int, left: int, cost: int, used: float) -> None:
            nonlocal best, tries
            tries += 1
            if best is not None and ((cost, used) >= best[:2] or tries > MAX_TRIES):
                return
            if left <= 0:
                best = (cost, used, chosen)
            elif left <= after[number]:
                tier = tiers[number]
                if best is not None and left * costs[tier] > (best[0] - cost) * self.needs[tier]:
                    return  # at the lowest price per byte that is left, it would still cost more
                last_used = max(used, evictable[tier])
                choose((*chosen, tier), number + 1, left - self.needs[tier], cost + costs[tier], last_used)
                choose(chosen, number + 1, left, cost, used)

        choose((), 0, missing, 0, float("-inf"))
        return frozenset(best[2]) if best is not None else None


def memory_plan(
    footprints: Mapping[str, Footprint], *, budget: int, preloaded: str | None, apart: bool = False
) -> MemoryPlan:
    """Return the plan for these tiers.

    Args:
        footprints: of every gguf tier.
        budget: bytes for all resident models together.
        preloaded: the role-fast tier; it is evicted last.
        apart: the budget is a GPU's own memory, which holds no prompt caches.
    """
    needs = {tier: need.device if apart else need.total for tier, need in footprints.items()}
    costs = {tier: max(1.0, need / GB) for tier, need in needs.items()}
    if preloaded in costs:
        costs[preloaded] += PRELOADED_COST
    return MemoryPlan(budget, needs, costs)
