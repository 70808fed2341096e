"""Offer tiers and providers as tools of an MCP server."""

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
from llmstack.providers.model_aliases import load_aliases
from llmstack.stack.ask import open_model, own_addresses
from llmstack.stack.remote.remote_router import fetch_router

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs
    from llmstack.providers.mcp.server import ModelTool
    from llmstack.providers.model_aliases import ModelAliases
    from llmstack.providers.model_api import Model


def serve(trusted: TrustedProject | None, env: Mapping[str, str], user: UserDirs) -> None:
    """Serve on standard input and output until the client leaves.

    Raises:
        LlmstackError: the extra `mcp` is missing, models.ini is wrong, or standard input or output is closed.
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
    anyio.run(serve_tools, list(list_tools(trusted, env, user)))


def list_tools(trusted: TrustedProject | None, env: Mapping[str, str], user: UserDirs) -> Iterator[ModelTool]:
    """Yield a tool for `auto`, for each tier of the project, and for each provider."""
    from llmstack.providers.mcp.server import ModelTool  # noqa: PLC0415 - an extra

    aliases = load_aliases(user.config)
    for name, description in _describe_tiers(trusted, env).items():
        yield ModelTool(
            name=f"tier_{re.sub(r'[^A-Za-z0-9_-]', '_', name)}",
            description=f"Ask {name}: {description}",
            open_model=partial(_open_tier, name, trusted, env, user),
        )
    addresses = own_addresses(trusted)
    for provider in PROVIDERS:
        yield ModelTool(
            name=f"provider_{provider}",
            description=f"Ask a model of {provider}.",
            open_model=partial(
                _open_provider_model,
                provider,
                env=env,
                config_dir=user.config,
                own_addresses=addresses,
            ),
            model_description=_describe_model_argument(provider, aliases),
        )


def _describe_tiers(trusted: TrustedProject | None, env: Mapping[str, str]) -> dict[str, str]:
    """Return the models of the project's router with descriptions.

    For a thin client whose router cannot be used now, this is `auto` alone.
    """
    if trusted is None:
        return {}
    config = trusted.declared
    if trusted.remote_url is not None:
        with contextlib.suppress(LlmstackError):
            config = fetch_router(trusted.remote_url, env).config
    elif config is None:
        return {}
    tiers = config.tiers.values() if config is not None else ()
    return {
        AUTO: "the tier that fits the request",
        **{tier.name: tier.description or tier.model.label for tier in tiers},
    }


def _open_tier(
    name: str, trusted: TrustedProject | None, env: Mapping[str, str], user: UserDirs, _model: str
) -> Model:
    return open_model(name, trusted, env, user)


def _open_provider_model(
    provider: str, model: str, *, env: Mapping[str, str], config_dir: Path, own_addresses: tuple[str, ...]
) -> Model:
    name = f"{provider}/{model}" if model else provider
    return providers.model(name, env=env, config_dir=config_dir, own_addresses=own_addresses)


def _describe_model_argument(provider: str, aliases: ModelAliases) -> str:
    short_names = aliases.short_names(provider)
    short = f", or one of {', '.join(short_names)}" if short_names else ""
    default = aliases.default_model(provider)
    return f"The model's name{short}." + (f" {default} by default." if default else "")
