"""A router whose tiers are served by remote servers and MCP tools."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from router.harness import FakeSwapper, RunningRouter, Setup, config, router
from support.providers import KEY

from llmstack.config.model import BackendKind, HostedModel, Role, Tier
from llmstack.paths import Project
from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.serving.remote.mcp import McpBackend
from llmstack.serving.remote.server import ServerBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


def server_tier(name: str, label: str, url: str, role: Role | None = None) -> Tier:
    prefix, _, model = label.partition("/")
    return Tier(name, BackendKind.SERVER, HostedModel(prefix, model, f"{url}/v1"), 64_000, role=role)


@contextlib.asynccontextmanager
async def router_with_tiers(
    *tiers: Tier, work_dir: Path = Path("/work-dir"), env: Mapping[str, str] | None = None
) -> AsyncIterator[RunningRouter]:
    stack = config(*tiers)
    env = {"ANTHROPIC_API_KEY": KEY, "MISTRAL_API_KEY": KEY, **(env or {})}
    async with router(FakeSwapper(), Setup(stack)) as running:
        mcp = McpBackend(Project.at(work_dir, {}), stack, {}, {**env, "PATH": "/usr/bin:/bin"})
        service = running.app.service
        service.backends = {
            **service.backends,
            BackendKind.SERVER: ServerBackend(
                stack, {}, env, load_bundled_aliases(), ["http://127.0.0.1:9"], upstream=service.upstream
            ),
            BackendKind.MCP: mcp,
        }
        try:
            yield running
        finally:
            await mcp.close()
