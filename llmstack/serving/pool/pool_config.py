"""What the pool serves and within which limits; replaced as a whole when models.ini is reloaded."""

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
    """Limits of the pool's queue.

    Attributes:
        queue: requests that may wait for one model.
        wait_s: seconds that a request may wait; loading from a slow disk takes minutes.
        patience_s: see `schedule`.
    """

    queue: int = 1000
    wait_s: float = 900.0
    patience_s: float = PATIENCE_S


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """What the pool serves.

    Attributes:
        create_server: returns a new server for a tier, not yet started; called for every start.
        plan: sizes and budget; its tiers are the ones that can be requested.
        ttls: seconds idle before a tier's model is unloaded, by tier.
        slots: requests that a tier serves at once, by tier.
    """

    create_server: Callable[[str], ModelServer]
    plan: MemoryPlan
    ttls: Mapping[str, float]
    slots: Mapping[str, int]

    def merge(self, old: PoolConfig, *, removed: Collection[str], outdated: Collection[str]) -> PoolConfig:
        """Return this configuration with what is still in use of the old one.

        Args:
            old: the configuration until now.
            removed: tiers that are no longer served, but whose models run or are waited for.
            outdated: tiers whose running server is still the old one; it may be the larger one.
        """
        needs = dict(self.plan.needs)
        for tier in (*removed, *outdated):
            needs[tier] = max(needs.get(tier, 0), old.plan.needs[tier])
        old_costs = {tier: old.plan.costs[tier] for tier in removed}

        def create_server(tier: str) -> ModelServer:
            return (old if tier in removed else self).create_server(tier)

        return PoolConfig(
            create_server,
            replace(self.plan, needs=needs, costs={**self.plan.costs, **old_costs}),
            ttls={**self.ttls, **{tier: old.ttls[tier] for tier in removed}},
            slots={**self.slots, **{tier: old.slots[tier] for tier in removed}},
        )


def pool_config_for(
    create_server: Callable[[str], ModelServer], config: StackConfig, survey: Survey
) -> PoolConfig:
    """Return the pool's configuration for the gguf tiers that this machine can serve."""
    tiers = [config.tiers[name] for name in survey.plan.needs]
    return PoolConfig(
        create_server,
        survey.plan,
        ttls={tier.name: tier.ttl for tier in tiers},
        slots={tier.name: tier.engine.parallel for tier in tiers},
    )
