"""Tiers and providers as tools of an MCP server."""

from __future__ import annotations

import contextlib
import re
import sys
from functools import partial
from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.providers.catalog import PROVIDERS
from llmstack.providers.model_aliases import load as load_known
from llmstack.stack.ask import config_of, model_for, own_addresses
from llmstack.stack.remote.remote_router import fetch, remote_url
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.providers.mcp.server import ModelTool
    from llmstack.providers.model_aliases import ModelAliases
    from llmstack.providers.model_api import Model


def serve(project: Project | None, env: Mapping[str, str], user: UserDirs) -> None:
    """Serve over standard input and output until the client leaves.

    Raises:
        LlmstackError: the extra is missing, models.ini is wrong, or there is nobody to talk to.
    """
    if sys.stdin is None or sys.stdout is None:
        raise LlmstackError(
            "standard input or output is closed, and an MCP client talks over both",
            hint="let the client start it: `llmstack mcp`",
        )
    try:
        import anyio  # noqa: PLC0415 - for this command only

        from llmstack.providers.mcp.server import serve as serve_tools  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise LlmstackError(
            "the extra `mcp` is not installed", hint="pip install 'llmstack-local[mcp]'"
        ) from error
    anyio.run(serve_tools, list(tools(project, env, user)))


def tools(project: Project | None, env: Mapping[str, str], user: UserDirs) -> Iterator[ModelTool]:
    """Yield a tool for `auto` and each tier of the project, and one for each provider."""
    from llmstack.providers.mcp.server import ModelTool  # noqa: PLC0415 - an extra

    config, known = config_of(project), load_known(user.config)
    for name, what in _described(project, config, env, user).items():
        tool = f"tier_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}"
        yield ModelTool(tool, f"Ask {name}: {what}", partial(_tier, name, project, env, user))
    own = own_addresses(project, config)
    for provider in PROVIDERS:
        ask = partial(_provided, provider, env=env, config_dir=user.config, own=own)
        yield ModelTool(f"provider_{provider}", f"Ask a model of {provider}.", ask, _choice(provider, known))


def _described(
    project: Project | None, config: StackConfig | None, env: Mapping[str, str], user: UserDirs
) -> dict[str, str]:
    """Return what there is to ask of a router: of a thin client's, `auto` alone where it cannot be asked."""
    remote = remote_url(project)
    if project is not None and remote is not None:
        with contextlib.suppress(LlmstackError):
            trust_store.require(project, user.trusted_projects)
            config = fetch(remote, env).config
    elif config is None:
        return {}
    tiers = config.tiers.values() if config is not None else ()
    return {
        AUTO: "the tier that fits the request",
        **{tier.name: tier.description or tier.model.label for tier in tiers},
    }


def _tier(name: str, project: Project | None, env: Mapping[str, str], user: UserDirs, _model: str) -> Model:
    return model_for(name, project, env, user)


def _provided(
    provider: str, model: str, *, env: Mapping[str, str], config_dir: Path, own: tuple[str, ...]
) -> Model:
    name = f"{provider}/{model}" if model else provider
    return providers.model(name, env=env, config_dir=config_dir, own=own)


def _choice(provider: str, known: ModelAliases) -> str:
    short = known.short_names(provider)
    also = f", or one of {', '.join(short)}" if short else ""
    default = known.default(provider)
    return f"The model's name{also}." + (f" {default} without." if default else "")
