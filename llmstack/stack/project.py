"""A project's configuration, channel and router: what every operation needs first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT
from llmstack.config import parse, profile_text
from llmstack.errors import LlmstackError
from llmstack.process.identity import running_daemon
from llmstack.stack.remote.router_client import RouterClient
from llmstack.stack.remote.router_secrets import OwnerToken

if TYPE_CHECKING:
    from llmstack.channel import Channel
    from llmstack.config import StackConfig
    from llmstack.config.model import Tier
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import Project, UserDirs
    from llmstack.process.identity import Daemon


@dataclass(frozen=True, slots=True)
class Address:
    """Where a project's router listens, or would listen."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """The address as clients on this machine reach it."""
        if self.host in {"0.0.0.0", ""}:  # noqa: S104 - compared, not bound
            return f"http://127.0.0.1:{self.port}"
        if self.host == "::":
            return f"http://[::1]:{self.port}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def pinned_channel(trusted: TrustedProject) -> Channel:
    """Return the channel the project is pinned to.

    Raises:
        LlmstackError: the project is not installed.
    """
    if trusted.pinned is None:
        work_dir = trusted.project.work_dir
        raise LlmstackError(f"{work_dir} is not installed", hint="run `llmstack install` there")
    return trusted.pinned


def active_channel(trusted: TrustedProject) -> Channel:
    """Return the channel that runs, or the pinned one if nothing runs."""
    return trusted.read_active_channel() or trusted.pinned or CURRENT


def require_config(trusted: TrustedProject) -> StackConfig:
    """Return models.ini as written.

    Raises:
        LlmstackError: it is missing, or the project is a thin client and has none.
    """
    refuse_thin_client(trusted)
    if trusted.declared is None:
        path = trusted.project.models_ini
        raise LlmstackError(f"{path}: no such file", hint="write one with `llmstack install`")
    return trusted.declared


def declared_or_default(trusted: TrustedProject | None, user: UserDirs) -> StackConfig:
    """Return models.ini as written, or the bundled default if no project is installed.

    Raises:
        LlmstackError: it is missing from a project that is installed, or the project is a thin client.
    """
    if trusted is None or (trusted.declared is None and trusted.pinned is None):
        text = profile_text("default", demo_models=user.demo_models)
        return parse(text, "profile default", base=user.data)
    return require_config(trusted)


def config_or_default(trusted: TrustedProject | None, user: UserDirs) -> StackConfig:
    """Return the configuration for the project's channel, or the bundled default if none is installed.

    Raises:
        LlmstackError: as for `declared_or_default`.
    """
    config = declared_or_default(trusted, user)
    return config.for_channel(active_channel(trusted).local_channel) if trusted is not None else config


def refuse_thin_client(trusted: TrustedProject) -> None:
    """Verify that the project has models of its own.

    Raises:
        LlmstackError: the project is a thin client: it uses another project's router.
    """
    if trusted.remote_url is not None:
        raise LlmstackError(
            f"{trusted.project.work_dir} is a thin client of {trusted.remote_url} and has no models of its"
            " own",
            hint="use the project that owns that router, or go back with `llmstack install --current`",
        )


def router_address(daemon: Daemon | None, config: StackConfig) -> Address:
    """Return where the running router listens; if none runs, where it would listen."""
    host, port = config.settings.host, config.settings.router_port
    if daemon is None:
        return Address(host, port)
    argv = daemon.argv
    if "--host" in argv:
        host = argv[argv.index("--host") + 1]
    return Address(host, daemon.port)


def queued_tiers(config: StackConfig) -> list[Tier]:
    """Return the tiers with a queued upgrade.

    Raises:
        LlmstackError: there are none.
    """
    queued = [tier for tier in config.tiers.values() if tier.next_model is not None]
    if not queued:
        raise LlmstackError(
            "no tier has a queued upgrade",
            hint="queue one in models.ini: `hf_file_next` for a GGUF, `model_next` for a hosted model",
        )
    return queued


def make_client(trusted: TrustedProject, address: Address) -> RouterClient:
    """Return a client of this project's own router, which proves itself with the project's token."""
    return RouterClient(address.url, OwnerToken(trusted.private.router_token))


def running_router(project: Project) -> Daemon | None:
    """Return this project's router if it runs."""
    return running_daemon(project.router_pid)
