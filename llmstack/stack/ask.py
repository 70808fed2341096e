"""One prompt to a tier or to a provider's model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.config import load
from llmstack.config.network import api_key
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.providers.catalog import MCP_FORMS, PROVIDERS, RESERVED
from llmstack.providers.http import HttpSource
from llmstack.providers.model_api import Model
from llmstack.providers.resolve import Endpoint
from llmstack.providers.retries import Retries
from llmstack.stack.project import router_address, running_router
from llmstack.stack.remote.remote_router import KEY, remote_url
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs

TIMEOUT_S = 1800.0  # a tier may have to load a large model first


def model_for(name: str, project: Project | None, env: Mapping[str, str], user: UserDirs) -> Model:
    """Return what `-m NAME` means: a tier of the project, or `<provider>/<id>`.

    Raises:
        LlmstackError: it is neither, the router that serves the tier does not run, or the project, which says
            where that router is, is not trusted.
    """
    config = config_of(project)
    tier = config.find(name) if config is not None else None
    if tier is None and name != AUTO and _names_a_provider(name):
        return providers.model(name, env=env, config_dir=user.config, own=own_addresses(project, config))
    if tier is None and name != AUTO and config is not None:
        known = ", ".join((AUTO, *config.tiers))
        raise LlmstackError(
            f"no tier is called `{name}`", hint=f"there are {known}; or name `<provider>/<id>`"
        )
    if project is not None:
        trust_store.require(project, user.trusted_projects)
    url = _router(project, config)
    key = api_key(env, config.settings.api_key_env if config is not None else KEY)
    endpoint = Endpoint(
        provider="llmstack",
        model=tier.name if tier is not None else name,
        root=f"{url}/v1",
        source="models.ini" if config is not None else "the channel",
        dialects=("chat",),
        headers={"authorization": f"Bearer {key}"} if key else {},
        local=True,
    )
    return Model(HttpSource(endpoint, timeout_s=TIMEOUT_S, retries=Retries(0)))


def own_addresses(project: Project | None, config: StackConfig | None) -> tuple[str, ...]:
    """Return where the project's router is, or would be: a provider is not to be asked there."""
    if (remote := remote_url(project)) is not None:
        return (remote,)
    if project is None or config is None:
        return ()
    return (router_address(running_router(project), config).url,)


def _names_a_provider(name: str) -> bool:
    prefix, slash, _ = name.partition("/")
    return bool(slash) or prefix in PROVIDERS or prefix in MCP_FORMS or prefix == RESERVED


def config_of(project: Project | None) -> StackConfig | None:
    """Return the project's own models.ini; a thin client has none."""
    return load(project.models_ini) if project is not None and project.models_ini.exists() else None


def _router(project: Project | None, config: StackConfig | None) -> str:
    """Return the address of the router that serves the project."""
    if (remote := remote_url(project)) is not None:
        return remote
    daemon = running_router(project) if project is not None else None
    if daemon is None or config is None:
        raise LlmstackError(
            "the stack is not running",
            hint="start it with `llmstack start`, or name a provider's model: `-m ollama/qwen3`",
        )
    return router_address(daemon, config).url
