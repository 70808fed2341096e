"""Send one prompt to a tier or to a provider's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.providers.catalog import MCP_PROVIDERS, PROVIDERS, RESERVED_PREFIX
from llmstack.providers.http import HttpSource
from llmstack.providers.model_api import Model
from llmstack.providers.resolve import Endpoint
from llmstack.providers.retries import RetryPolicy
from llmstack.stack.project import make_client, router_address, running_router
from llmstack.stack.remote.remote_router import make_remote_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs
    from llmstack.stack.remote.router_client import RouterClient

TIMEOUT_S = 1800.0  # a tier may have to load a large model first


def open_model(name: str, trusted: TrustedProject | None, env: Mapping[str, str], user: UserDirs) -> Model:
    """Return the model that `-m NAME` refers to: a tier of the project, or `<provider>/<id>`.

    Raises:
        LlmstackError: there is no such tier or model, or the router that serves the tier does not run or does
            not prove itself.
    """
    config = trusted.declared if trusted is not None else None
    tier = config.find(name) if config is not None else None
    if tier is None and name != AUTO and _names_a_provider(name):
        return providers.model(name, env=env, config_dir=user.config, own_addresses=own_addresses(trusted))
    if tier is None and name != AUTO and config is not None:
        names = ", ".join((AUTO, *config.tiers))
        raise LlmstackError(
            f"no tier is called `{name}`", hint=f"there are {names}; or name `<provider>/<id>`"
        )
    client = _router_client(trusted, env)
    endpoint = Endpoint(
        provider="llmstack",
        model=tier.name if tier is not None else name,
        root=f"{client.url}/v1",
        address_source="models.ini" if config is not None else "the channel",
        dialects=("chat",),
        headers=client.authorize(),
        is_local=True,
    )
    return Model(HttpSource(endpoint, timeout_s=TIMEOUT_S, retries=RetryPolicy(0)))


def own_addresses(trusted: TrustedProject | None) -> tuple[str, ...]:
    """Return where the project's router listens or would listen: a provider must not be called there."""
    if trusted is None:
        return ()
    if trusted.remote_url is not None:
        return (trusted.remote_url,)
    if trusted.declared is None:
        return ()
    return (router_address(running_router(trusted.project), trusted.declared).url,)


def _names_a_provider(name: str) -> bool:
    prefix, slash, _ = name.partition("/")
    return bool(slash) or prefix in PROVIDERS or prefix in MCP_PROVIDERS or prefix == RESERVED_PREFIX


def _router_client(trusted: TrustedProject | None, env: Mapping[str, str]) -> RouterClient:
    """Return a client of the router that serves the project.

    Raises:
        LlmstackError: it does not run.
    """
    if trusted is not None and trusted.remote_url is not None:
        return make_remote_client(trusted.remote_url, env)
    daemon = running_router(trusted.project) if trusted is not None else None
    if daemon is None or trusted is None or trusted.declared is None:
        raise LlmstackError(
            "the stack is not running",
            hint="start it with `llmstack start`, or name a provider's model: `-m ollama/qwen3`",
        )
    return make_client(trusted, router_address(daemon, trusted.declared))
