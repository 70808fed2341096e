"""Tiers that another server serves: one of the developer's own, or a provider's API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmstack.config.model import BackendKind, HostedModel
from llmstack.providers.errors import ProviderError
from llmstack.providers.resolve import resolve
from llmstack.serving.base import ModelState, TierUnavailableError
from llmstack.serving.remote.lease import RemoteLease
from llmstack.serving.sampling import defaults_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.providers.model_aliases import ModelAliases
    from llmstack.providers.resolve import Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLease(RemoteLease):
    """The right to use a model of another server.

    Attributes:
        endpoint: where its APIs are, which it speaks, and what the model does not accept.
        max_tokens: of an answer, where the client gives no maximum and the provider wants one.
    """

    endpoint: Endpoint
    max_tokens: int | None = None


class ServerBackend:
    """Serves every tier whose backend is `server`. A `Backend`.

    Args:
        config: tiers as the running channel has them.
        unavailable: tiers that cannot be reached, for want of a key or of an address.
        env: addresses and keys.
        known: short names and limits of models.
        own: addresses of this router, which must not call itself.
    """

    def __init__(
        self,
        config: StackConfig,
        unavailable: Mapping[str, str],
        env: Mapping[str, str],
        known: ModelAliases,
        own: Collection[str],
    ) -> None:
        self._env = env
        self._known = known
        self._own = own
        self._leases: dict[str, ServerLease] = {}
        self._problems: dict[str, ProviderError] = {}
        self._take(config, unavailable)

    async def acquire(self, tier: str, session: str = "") -> ServerLease:  # noqa: ARG002 - it keeps none
        """Return the right to use a tier: there is nothing to wait for.

        Raises:
            TierUnavailableError: its address cannot be used, or the tier is gone.
        """
        if tier in self._leases:
            return self._leases[tier]
        problem = self._problems.get(tier)
        if problem is None:
            raise TierUnavailableError(f"{tier} is not served any more", retry_after=1)
        raise TierUnavailableError(problem.message, hint=problem.hint)

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier; nothing is probed."""
        problem = self._problems.get(tier)
        return ModelState("remote") if problem is None else ModelState("down", detail=problem.message)

    def status(self) -> dict[str, Any] | None:
        """Return the address of each tier; None where there is no tier."""
        return {name: lease.endpoint.root for name, lease in self._leases.items()} or None

    async def reload(self, config: StackConfig, unavailable: Mapping[str, str]) -> list[str]:
        """Take up edited tiers; nothing is cut."""
        self._take(config, unavailable)
        return []

    async def close(self) -> None:
        """Nothing was started."""

    def _take(self, config: StackConfig, unavailable: Mapping[str, str]) -> None:
        self._leases, self._problems = {}, {}
        for name, tier in config.tiers.items():
            if (
                tier.backend is BackendKind.SERVER
                and name not in unavailable
                and isinstance(tier.model, HostedModel)
            ):
                try:
                    self._leases[name] = self._lease(tier, tier.model)
                except ProviderError as error:  # such as our own address, which only the router knows
                    self._problems[name] = error

    def _lease(self, tier: Tier, model: HostedModel) -> ServerLease:
        endpoint = resolve(model.label, self._env, self._known, base_url=model.base_url, own=self._own)
        return ServerLease(
            tier=tier.name,
            model=endpoint.model,
            url=endpoint.root,
            headers=endpoint.headers,
            defaults=defaults_of(tier, self._known),
            endpoint=endpoint,
            secrets=endpoint.secrets,
            max_tokens=tier.max_output_tokens,
        )
