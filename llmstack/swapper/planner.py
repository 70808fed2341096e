"""How much memory each tier needs, which tiers may live together, and whom to evict. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmstack.config.model import EngineSettings, Tier
    from llmstack.engine.header import GgufHeader

GB = 1024**3
MB = 1024**2
PROCESS_BYTES = 48 * MB  # a model server without a model (measured 37-47 MB)
UBATCH = 512  # llama.cpp's default; its compute buffer holds the logits of one such batch
KEPT_FREE = 0.25  # of the memory found, for everything else; macOS keeps as much from the GPU
PRELOADED_COST = 1_000_000  # evicted last: more than all other tiers together
COST_UNITS = 1000
MAX_SETS = 200
MAX_TRIES = 2000

# ggml block types: bytes per block of 32 values, / 32
BYTES_PER_VALUE = {
    "f32": 4.0,
    "f16": 2.0,
    "bf16": 2.0,
    "q8_0": 34 / 32,
    "q5_1": 24 / 32,
    "q5_0": 22 / 32,
    "q4_1": 20 / 32,
    "q4_0": 18 / 32,
    "iq4_nl": 18 / 32,
}


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that one resident model needs, in bytes."""

    weights: int
    kv: int = 0
    prompt_cache: int = 0
    compute: int = PROCESS_BYTES

    @property
    def total(self) -> int:
        """Everything together."""
        return self.weights + self.kv + self.prompt_cache + self.compute


def kv_bytes(header: GgufHeader, engine: EngineSettings, ctx_size: int) -> int:
    """Return the size of the KV cache: `ctx_size` tokens in each of `parallel` slots, full attention."""
    per_head = (
        header.key_length * BYTES_PER_VALUE[engine.cache_type_k]
        + header.value_length * BYTES_PER_VALUE[engine.cache_type_v]
    )
    return round(ctx_size * engine.parallel * sum(header.kv_heads) * per_head)


def footprint(tier: Tier, *, file_bytes: int, header: GgufHeader | None) -> Footprint:
    """Return what a gguf tier needs once resident.

    Args:
        tier: the tier; a `size_gb` in models.ini counts instead of the file's size.
        file_bytes: size of its file or files on disk; 0 where they are missing.
        header: None where the file is missing: then the KV cache is unknown and counted as 0.
    """
    size_gb = getattr(tier.model, "size_gb", None)
    weights = round(size_gb * GB) if size_gb is not None else file_bytes
    prompt_cache = round(tier.engine.cache_ram_gb * GB)
    if header is None:
        return Footprint(weights, prompt_cache=prompt_cache)
    logits = UBATCH * (header.vocabulary + header.embedding) * 4
    return Footprint(
        weights=weights,
        kv=kv_bytes(header, tier.engine, tier.ctx_size),
        prompt_cache=prompt_cache,
        compute=PROCESS_BYTES + logits,
    )


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What may be resident together.

    Attributes:
        budget: bytes for all resident models together.
        needs: bytes per tier.
        costs: what evicting a tier costs, compared with the others; by default its size.
    """

    budget: int
    needs: Mapping[str, int]
    costs: Mapping[str, float]

    def fits(self, tiers: Collection[str]) -> bool:
        """Return whether these may live together; one alone always may."""
        return len(tiers) <= 1 or sum(self.needs[tier] for tier in tiers) <= self.budget

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


def memory_plan(footprints: Mapping[str, Footprint], *, budget: int, preloaded: str | None) -> MemoryPlan:
    """Return the plan for these tiers; `preloaded` (the role-fast tier) is evicted last."""
    needs = {tier: need.total for tier, need in footprints.items()}
    costs = {tier: max(1.0, need / GB) for tier, need in needs.items()}
    if preloaded in costs:
        costs[preloaded] += PRELOADED_COST
    return MemoryPlan(budget, needs, costs)


def default_budget(total_memory: int) -> int:
    """Return the budget where `memory_gb` is not set: three quarters of the machine's memory, in bytes."""
    return round(total_memory * (1 - KEPT_FREE))
