"""Load and unload models by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.stack.project import make_client, require_config, router_address, running_router

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.stack.remote.router_client import RouterClient

TIMEOUT_S = 1800.0  # for a large model from a slow disk, after requests in flight


def load_tier(trusted: TrustedProject, name: str, *, notify: Callable[[str], None] = lambda _: None) -> str:
    """Load a tier, by its name or an alias; return its name.

    Raises:
        LlmstackError: the stack does not run, there is no such tier, or it cannot be loaded.
    """
    config = require_config(trusted)
    client = _running_client(trusted, config)
    if config.find(name) is not None:  # otherwise the router's error lists the tiers
        notify(f"loading {name}")
    return client.load(name, TIMEOUT_S)


def unload_tiers(trusted: TrustedProject, name: str | None) -> list[str]:
    """Unload one tier, or every tier if `name` is None; return the names of those that were loaded.

    Raises:
        LlmstackError: the stack does not run, or there is no such tier.
    """
    return _running_client(trusted, require_config(trusted)).unload(name, TIMEOUT_S)


def _running_client(trusted: TrustedProject, config: StackConfig) -> RouterClient:
    daemon = running_router(trusted.project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    return make_client(trusted, router_address(daemon, config))
