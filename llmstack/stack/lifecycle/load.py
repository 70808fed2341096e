"""Loading and unloading models by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from llmstack.errors import LlmstackError
from llmstack.stack.project import client_of_own, local_config, running_router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.stack.remote.router_client import RouterClient

WAIT_S = 1800.0  # a large model from a slow disk, behind requests in flight


def load(
    project: Project, env: Mapping[str, str], tier: str, *, tell: Callable[[str], None] = lambda _: None
) -> str:
    """Make a tier resident; return its name."""
    config = local_config(project)
    client = _client(project, config, env)
    if config.find(tier) is not None:
        tell(f"loading {tier}")  # else the router knows better, or says which there are
    done = client.post(f"/llmstack/load/{quote(tier, safe='')}", timeout_s=WAIT_S)
    return str(done["tier"])


def unload(project: Project, env: Mapping[str, str], tier: str | None) -> list[str]:
    """Stop a tier, or every one; return the names of those that were resident."""
    path = "/llmstack/unload" if tier is None else f"/llmstack/unload/{quote(tier, safe='')}"
    return list(_client(project, local_config(project), env).post(path, timeout_s=WAIT_S)["unloaded"])


def _client(project: Project, config: StackConfig, env: Mapping[str, str]) -> RouterClient:
    daemon = running_router(project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    return client_of_own(daemon, config, env)
