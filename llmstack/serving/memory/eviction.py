"""Which models fit into memory together, and which ones to evict. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmstack.serving.memory.footprint import Footprint

PRELOADED_COST = 1_000_000  # evicted last: costs more than all other tiers together
COST_UNITS = 1000
MAX_SETS = 200
MAX_TRIES = 2000  # some milliseconds


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The memory budget, and what each model needs of it.

    Attributes:
        budget: bytes for all loaded models together.
        needs: bytes by tier.
        costs: what it costs to evict a tier, relative to the others; its size by default.
        advice: how to raise the budget, by tier that is larger than it.
    """

    budget: int
    needs: Mapping[str, int]
    costs: Mapping[str, float]
    advice: Mapping[str, str] = field(default_factory=dict)

    def fits(self, tiers: Collection[str]) -> bool:
        """Return whether these tiers fit together; a single one always does."""
        return len(tiers) <= 1 or sum(self.needs[tier] for tier in tiers) <= self.budget

    def evicting(self, loaded: Collection[str]) -> frozenset[str]:
        """Return the tiers that cannot be loaded in addition to these without evicting one of them."""
        local = self.needs.keys() & loaded
        return frozenset(name for name in self.needs if not self.fits(local | {name}))

    def exceeds(self, tier: str) -> bool:
        """Return whether a tier is larger than the whole budget; it is loaded all the same, alone."""
        return self.needs[tier] > self.budget

    def sets(self) -> list[tuple[str, ...]]:
        """Return the largest combinations of tiers that fit together, in declaration order, 200 at most."""
        names = list(self.needs)
        combinations: list[tuple[str, ...]] = [(name,) for name in names if self.exceeds(name)]
        small = [name for name in names if not self.exceeds(name)]
        remaining = [sum(self.needs[name] for name in small[number:]) for number in range(len(small) + 1)]

        def extend(chosen: tuple[str, ...], number: int, room: int, smallest_left_out: float) -> None:
            if len(combinations) >= MAX_SETS or room - remaining[number] >= smallest_left_out:
                return  # whatever else is chosen, a tier that was left out would still fit
            if number == len(small):
                combinations.append(chosen)
                return
            name = small[number]
            need = self.needs[name]
            if need <= room:
                extend((*chosen, name), number + 1, room - need, smallest_left_out)
            extend(chosen, number + 1, room, min(smallest_left_out, need))

        if small:
            extend((), 0, self.budget, float("inf"))
        return sorted(combinations, key=lambda combination: [names.index(name) for name in combination])

    def victims(
        self, loaded: Collection[str], requested: str, evictable: Mapping[str, float]
    ) -> frozenset[str] | None:
        """Return the cheapest tiers to evict so that `requested` fits; None if no choice makes room.

        The cost of restoring their conversations does not count: it is small compared with the load, and the
        time of the last use tells better whether a tier will be requested soon.

        Args:
            loaded: tiers that hold memory now.
            requested: the tier to make room for.
            evictable: those of them that may be evicted, with the time of their last use; among equally cheap
                choices, the one used longest ago is evicted.
        """
        if self.fits({*loaded, requested}):
            return frozenset()
        others = [tier for tier in loaded if tier != requested]
        if self.exceeds(requested):
            return frozenset(others) if all(tier in evictable for tier in others) else None
        missing = sum(self.needs[tier] for tier in others) + self.needs[requested] - self.budget
        return self._cheapest(missing, {tier: used for tier, used in evictable.items() if tier in others})

    def _cheapest(self, missing: int, evictable: Mapping[str, float]) -> frozenset[str] | None:
        """Return the cheapest choice of tiers that frees `missing` bytes; None if all of them do not.

        A branch and bound search that ends after MAX_TRIES: with very many tiers the choice may not be the
        best one.
        """
        # Integers, since sums of floats depend on their order.
        costs = {tier: round(self.costs[tier] * COST_UNITS) for tier in evictable}
        tiers = sorted(evictable, key=lambda tier: (costs[tier] / max(1, self.needs[tier]), evictable[tier]))
        remaining = [sum(self.needs[tier] for tier in tiers[number:]) for number in range(len(tiers) + 1)]
        best: tuple[int, float, tuple[str, ...]] | None = None
        tries = 0

        def choose(chosen: tuple[str, ...], number: int, missing: int, cost: int, used: float) -> None:
            nonlocal best, tries
            tries += 1
            if best is not None and ((cost, used) >= best[:2] or tries > MAX_TRIES):
                return
            if missing <= 0:
                best = (cost, used, chosen)
            elif missing <= remaining[number]:
                tier = tiers[number]
                if best is not None and missing * costs[tier] > (best[0] - cost) * self.needs[tier]:
                    return  # even at the lowest remaining cost per byte, this branch would cost more
                last_used = max(used, evictable[tier])
                choose((*chosen, tier), number + 1, missing - self.needs[tier], cost + costs[tier], last_used)
                choose(chosen, number + 1, missing, cost, used)

        choose((), 0, missing, 0, float("-inf"))
        return frozenset(best[2]) if best is not None else None


def memory_plan(
    footprints: Mapping[str, Footprint], *, budget: int, preloaded: str | None, on_gpu: bool = False
) -> MemoryPlan:
    """Return the plan for these tiers.

    Args:
        footprints: of every gguf tier.
        budget: bytes for all loaded models together.
        preloaded: the tier of role fast, which is evicted last.
        on_gpu: the budget is a GPU's own memory, which holds no prompt caches.
    """
    needs = {tier: need.device if on_gpu else need.total for tier, need in footprints.items()}
    costs = {tier: max(1.0, need / GB) for tier, need in needs.items()}
    if preloaded in costs:
        costs[preloaded] += PRELOADED_COST
    return MemoryPlan(budget, needs, costs)
