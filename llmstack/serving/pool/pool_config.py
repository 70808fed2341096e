"""What a pool serves and within which bounds; exchanged as a whole when the configuration is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmstack.serving.pool.scheduler import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from llmstack.config.model import StackConfig
    from llmstack.serving.memory.eviction import MemoryPlan
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.pool.model_server import ModelServer


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of a pool.

    Attributes:
        queue: requests that may wait for one model.
        wait_s: seconds that one request may wait; a load from a slow disk takes minutes.
        patience_s: see `schedule`.
    """

    queue: int = 1000
    wait_s: float = 900.0
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """What a pool serves.

    Attributes:
        servers: makes the server of a tier, not yet started; called once for every start.
        plan: sizes and budget; its tiers are the ones that can be asked for.
        ttls: seconds idle before a tier is stopped.
        slots: requests that a tier serves at once.
    """

    servers: Callable[[str], ModelServer]
    plan: MemoryPlan
    ttls: Mapping[str, float]
    slots: Mapping[str, int]

    def beside(self, old: PoolConfig, *, gone: Collection[str], outdated: Collection[str]) -> PoolConfig:
        """Return these terms for as long as something of the old ones is left.

        Args:
            old: the terms until now.
            gone: tiers that are no longer served, but still run or are waited for.
            outdated: tiers whose running server is still the old one; it may be the larger one.
        """
        needs = dict(self.plan.needs)
        for tier in (*gone, *outdated):
            needs[tier] = max(needs.get(tier, 0), old.plan.needs[tier])
        of_gone = {tier: old.plan.costs[tier] for tier in gone}

        def servers(tier: str) -> ModelServer:
            return (old if tier in gone else self).servers(tier)

        return PoolConfig(
            servers,
            replace(self.plan, needs=needs, costs={**self.plan.costs, **of_gone}),
            ttls={**self.ttls, **{tier: old.ttls[tier] for tier in gone}},
            slots={**self.slots, **{tier: old.slots[tier] for tier in gone}},
        )


def pool_config_for(servers: Callable[[str], ModelServer], config: StackConfig, found: Survey) -> PoolConfig:
    """Return what a configuration says of the gguf tiers that this machine can serve."""
    tiers = [config.tiers[name] for name in found.plan.needs]
    return PoolConfig(
        servers,
        found.plan,
        ttls={tier.name: tier.ttl for tier in tiers},
        slots={tier.name: tier.engine.parallel for tier in tiers},
    )
