"""Load and unload models by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from llmstack.errors import LlmstackError
from llmstack.stack.project import load_config, make_client, running_router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.stack.remote.router_client import RouterClient

TIMEOUT_S = 1800.0  # for a large model from a slow disk, after requests in flight


def load_tier(
    project: Project, env: Mapping[str, str], name: str, *, notify: Callable[[str], None] = lambda _: None
) -> str:
    """Load a tier, by its name or an alias; return its name.

    Raises:
        LlmstackError: the stack does not run, there is no such tier, or it cannot be loaded.
    """
    config = load_config(project)
    client = _running_client(project, config, env)
    if config.find(name) is not None:  # otherwise the router's error lists the tiers
        notify(f"loading {name}")
    response = client.post(f"/llmstack/load/{quote(name, safe='')}", timeout_s=TIMEOUT_S)
    return str(response["tier"])


def unload_tiers(project: Project, env: Mapping[str, str], name: str | None) -> list[str]:
    """Unload one tier, or every tier if `name` is None; return the names of those that were loaded.

    Raises:
        LlmstackError: the stack does not run, or there is no such tier.
    """
    path = "/llmstack/unload" if name is None else f"/llmstack/unload/{quote(name, safe='')}"
    client = _running_client(project, load_config(project), env)
    return list(client.post(path, timeout_s=TIMEOUT_S)["unloaded"])


def _running_client(project: Project, config: StackConfig, env: Mapping[str, str]) -> RouterClient:
    daemon = running_router(project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    return make_client(daemon, config, env)
