"""What every operation on a project needs to know of it first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, read_marker
from llmstack.config import load
from llmstack.config.network import api_key
from llmstack.errors import LlmstackError
from llmstack.process.identity import running
from llmstack.stack.remote.router_client import RouterClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel
    from llmstack.config import StackConfig
    from llmstack.config.model import Tier
    from llmstack.paths import Project
    from llmstack.process.identity import Daemon


@dataclass(frozen=True, slots=True)
class Address:
    """Where the router of a project listens, or would."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """As clients on this machine reach it."""
        if self.host in {"0.0.0.0", ""}:  # noqa: S104 - compared, not bound
            return f"http://127.0.0.1:{self.port}"
        if self.host == "::":
            return f"http://[::1]:{self.port}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def pinned_channel(project: Project) -> Channel:
    """Return the channel the project is pinned to.

    Raises:
        LlmstackError: it was never installed, or the marker is damaged.
    """
    channel = read_marker(project.default_channel)
    if channel is None:
        raise LlmstackError(f"{project.work_dir} is not installed", hint="run `llmstack install` there")
    return channel


def active_channel(project: Project) -> Channel:
    """Return the channel that runs, else the pinned one."""
    return read_marker(project.active_channel) or read_marker(project.default_channel) or CURRENT


def own_config(project: Project | None) -> StackConfig | None:
    """Return models.ini as it stands, whatever the channel; None where no project was installed.

    Raises:
        LlmstackError: it is wrong, or is gone from a project that was installed.
    """
    if project is None or not (project.models_ini.exists() or project.default_channel.is_file()):
        return None
    return load(project.models_ini)


def local_config(project: Project) -> StackConfig:
    """Return the project's models.ini.

    Raises:
        LlmstackError: it is missing or wrong, or the project is a thin client and has none.
    """
    refuse_thin_client(project)
    return load(project.models_ini)


def refuse_thin_client(project: Project) -> None:
    """Raise where the models are another project's.

    Raises:
        LlmstackError: the project is a thin client.
    """
    channel = read_marker(project.default_channel)
    if channel is not None and channel.url is not None:
        raise LlmstackError(
            f"{project.work_dir} is a thin client of {channel.url} and has no models of its own",
            hint="act in the project that owns that router, or go back with `llmstack install --current`",
        )


def router_address(daemon: Daemon | None, config: StackConfig) -> Address:
    """Return where the running router listens; where none runs, where it would."""
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
    queued = [tier for tier in config.tiers.values() if tier.queued is not None]
    if not queued:
        raise LlmstackError(
            "no tier has a queued upgrade",
            hint="queue one in models.ini: `hf_file_next` for a GGUF, `model_next` for a hosted model",
        )
    return queued


def client_of_own(daemon: Daemon | None, config: StackConfig, env: Mapping[str, str]) -> RouterClient:
    """Return what talks to this project's router."""
    return RouterClient(router_address(daemon, config).url, api_key(env, config.settings.api_key_env))


def running_router(project: Project) -> Daemon | None:
    """Return this project's router, if it runs."""
    return running(project.router_pid)
