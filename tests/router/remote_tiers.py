"""A router whose tiers something else serves."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

from router.harness import FakeSwapper, Running, Setup, config, router
from support.providers import KEY

from llmstack.config.model import BackendKind, HostedModel, Role, Tier
from llmstack.paths import Project
from llmstack.providers.model_aliases import load_bundled_aliases
from llmstack.serving.remote.mcp import McpBackend
from llmstack.serving.remote.server import ServerBackend

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping


def hosted(name: str, label: str, url: str, role: Role | None = None) -> Tier:
    prefix, _, model = label.partition("/")
    return Tier(name, BackendKind.SERVER, HostedModel(prefix, model, f"{url}/v1"), 64_000, role=role)


@contextlib.asynccontextmanager
async def serving(
    *tiers: Tier, work_dir: Path = Path("/work-dir"), env: Mapping[str, str] | None = None
) -> AsyncIterator[Running]:
    stack = config(*tiers)
    env = {"ANTHROPIC_API_KEY": KEY, "MISTRAL_API_KEY": KEY, **(env or {})}
    async with router(FakeSwapper(), Setup(stack)) as running:
        tools = McpBackend(Project.at(work_dir, {}), stack, {}, {**env, "PATH": "/usr/bin:/bin"})
        service = running.app.service
        service.backends = {
            **service.backends,
            BackendKind.SERVER: ServerBackend(
                stack, {}, env, load_bundled_aliases(), ["http://127.0.0.1:9"], upstream=service.upstream
            ),
            BackendKind.MCP: tools,
        }
        try:
            yield running
        finally:
            await tools.close()
