"""Tiers behind one tool of a stdio MCP server, which is started with the first request."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmstack.config.model import BackendKind, McpModel
from llmstack.providers.mcp.source import McpSource
from llmstack.serving.base import ModelState, TierUnavailableError
from llmstack.serving.remote.lease import RemoteLease

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import TextIO

    from llmstack.config.model import StackConfig
    from llmstack.paths import Project


@dataclass(frozen=True, slots=True, kw_only=True)
class McpLease(RemoteLease):
    """The right to call one tool."""

    source: McpSource


@dataclass(slots=True)
class _Served:
    model: McpModel
    source: McpSource
    log: TextIO

    async def close(self) -> None:
        await self.source.close()
        self.log.close()


class McpBackend:
    """Serves every tier whose backend is `mcp`. A `Backend`.

    Args:
        project: for the servers' own messages.
        config: tiers as the running channel has them.
        unavailable: tiers whose server cannot be started.
        env: of the servers.
    """

    def __init__(
        self, project: Project, config: StackConfig, unavailable: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        self._project = project
        self._env = env
        self._served: dict[str, _Served] = {}
        self._begin(_models(config, unavailable))

    async def acquire(self, tier: str, session: str = "") -> McpLease:  # noqa: ARG002 - it keeps none
        """Return the right to call a tier's tool.

        Raises:
            TierUnavailableError: the tier is gone.
        """
        served = self._served.get(tier)
        if served is None:
            raise TierUnavailableError(f"{tier} is not served any more", retry_after=1)
        return McpLease(tier=tier, model=tier, url="", source=served.source)

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier: whether its server runs."""
        served = self._served.get(tier)
        return ModelState("resident" if served is not None and served.source.running else "idle")

    def status(self) -> dict[str, Any] | None:
        """Nothing but the tiers' own states."""
        return None

    async def reload(self, config: StackConfig, unavailable: Mapping[str, str]) -> list[str]:
        """Take up edited tiers; a server whose command changed is ended, with the calls it was at."""
        wanted = _models(config, unavailable)
        ended = [name for name, served in self._served.items() if wanted.get(name) != served.model]
        await asyncio.gather(*(self._served.pop(name).close() for name in ended))
        self._begin({name: model for name, model in wanted.items() if name not in self._served})
        return [f"the MCP server of {name} was ended, its calls were cut" for name in ended]

    async def close(self) -> None:
        """End every server."""
        await asyncio.gather(*(served.close() for served in self._served.values()))
        self._served.clear()

    def _begin(self, models: Mapping[str, McpModel]) -> None:
        for name, model in models.items():
            log = _opened(self._project.log(name))
            source = McpSource(model.command, model.tool, env=self._env, provider=name, log=log)
            self._served[name] = _Served(model, source, log)


def _models(config: StackConfig, unavailable: Mapping[str, str]) -> dict[str, McpModel]:
    return {
        name: tier.model
        for name, tier in config.tiers.items()
        if tier.backend is BackendKind.MCP and name not in unavailable and isinstance(tier.model, McpModel)
    }


def _opened(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("a+", encoding="utf-8", errors="replace")  # its end is quoted where the server ends
