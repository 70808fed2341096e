"""Send one prompt to a tier or to a provider's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.config.network import read_api_key
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.providers.catalog import MCP_PROVIDERS, PROVIDERS, RESERVED_PREFIX
from llmstack.providers.http import HttpSource
from llmstack.providers.model_api import Model
from llmstack.providers.resolve import Endpoint
from llmstack.providers.retries import RetryPolicy
from llmstack.stack.project import load_config_if_present, router_address, running_router
from llmstack.stack.remote.remote_router import API_KEY_ENV, remote_url
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs

TIMEOUT_S = 1800.0  # a tier may have to load a large model first


def open_model(name: str, project: Project | None, env: Mapping[str, str], user: UserDirs) -> Model:
    """Return the model that `-m NAME` refers to: a tier of the project, or `<provider>/<id>`.

    Raises:
        LlmstackError: there is no such tier or model, the router that serves the tier does not run, or the
            project, which decides where that router is, is not trusted.
    """
    config = load_config_if_present(project)
    tier = config.find(name) if config is not None else None
    if tier is None and name != AUTO and _names_a_provider(name):
        return providers.model(
            name, env=env, config_dir=user.config, own_addresses=own_addresses(project, config)
        )
    if tier is None and name != AUTO and config is not None:
        names = ", ".join((AUTO, *config.tiers))
        raise LlmstackError(
            f"no tier is called `{name}`", hint=f"there are {names}; or name `<provider>/<id>`"
        )
    if project is not None:
        trust_store.require(project, user.trusted_projects)
    url = _router_url(project, config)
    api_key = read_api_key(env, config.settings.api_key_env if config is not None else API_KEY_ENV)
    endpoint = Endpoint(
        provider="llmstack",
        model=tier.name if tier is not None else name,
        root=f"{url}/v1",
        address_source="models.ini" if config is not None else "the channel",
        dialects=("chat",),
        headers={"authorization": f"Bearer {api_key}"} if api_key else {},
        is_local=True,
    )
    return Model(HttpSource(endpoint, timeout_s=TIMEOUT_S, retries=RetryPolicy(0)))


def own_addresses(project: Project | None, config: StackConfig | None) -> tuple[str, ...]:
    """Return where the project's router listens or would listen: a provider must not be called there."""
    if (url := remote_url(project)) is not None:
        return (url,)
    if project is None or config is None:
        return ()
    return (router_address(running_router(project), config).url,)


def _names_a_provider(name: str) -> bool:
    prefix, slash, _ = name.partition("/")
    return bool(slash) or prefix in PROVIDERS or prefix in MCP_PROVIDERS or prefix == RESERVED_PREFIX


def _router_url(project: Project | None, config: StackConfig | None) -> str:
    """Return the URL of the router that serves the project.

    Raises:
        LlmstackError: it does not run.
    """
    if (url := remote_url(project)) is not None:
        return url
    daemon = running_router(project) if project is not None else None
    if daemon is None or config is None:
        raise LlmstackError(
            "the stack is not running",
            hint="start it with `llmstack start`, or name a provider's model: `-m ollama/qwen3`",
        )
    return router_address(daemon, config).url
