"""A project's configuration, channel and router: what every operation needs first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, read_marker
from llmstack.config import load
from llmstack.config.network import read_api_key
from llmstack.errors import LlmstackError
from llmstack.process.identity import running_daemon
from llmstack.stack.remote.router_client import RouterClient
from llmstack.trust.fingerprint import read_plain_file

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel
    from llmstack.config import StackConfig
    from llmstack.config.model import Tier
    from llmstack.paths import Project
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


def pinned_channel(project: Project) -> Channel:
    """Return the channel the project is pinned to.

    Raises:
        LlmstackError: the project is not installed, or the marker is damaged.
    """
    channel = read_marker(project.default_channel)
    if channel is None:
        raise LlmstackError(f"{project.work_dir} is not installed", hint="run `llmstack install` there")
    return channel


def active_channel(project: Project) -> Channel:
    """Return the channel that runs, or the pinned one if nothing runs."""
    return read_marker(project.active_channel) or read_marker(project.default_channel) or CURRENT


def load_config(project: Project) -> StackConfig:
    """Read the project's models.ini.

    Raises:
        LlmstackError: it is missing or wrong, or the project is a thin client and has none.
    """
    refuse_thin_client(project)
    return load(project.models_ini)


def load_config_if_installed(project: Project | None) -> StackConfig | None:
    """Read models.ini as written, whatever the channel; None if no project is installed.

    Raises:
        LlmstackError: it is wrong, or is missing from a project that is installed.
    """
    if project is None or not (project.models_ini.exists() or project.default_channel.is_file()):
        return None
    return load(project.models_ini)


def load_config_if_present(project: Project | None) -> StackConfig | None:
    """Read models.ini if there is one; a thin client has none.

    Raises:
        LlmstackError: it is wrong.
    """
    return load(project.models_ini) if project is not None and project.models_ini.exists() else None


def refuse_if_edited(project: Project, config: StackConfig) -> None:
    """Verify that models.ini still is the text that `config` was parsed from.

    Raises:
        LlmstackError: it was edited meanwhile.
    """
    if read_plain_file(project.models_ini) != config.text.encode():
        raise LlmstackError(f"{project.models_ini} was edited meanwhile", hint="try again")


def refuse_thin_client(project: Project) -> None:
    """Verify that the project has models of its own.

    Raises:
        LlmstackError: the project is a thin client: it uses another project's router.
    """
    channel = read_marker(project.default_channel)
    if channel is not None and channel.url is not None:
        raise LlmstackError(
            f"{project.work_dir} is a thin client of {channel.url} and has no models of its own",
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


def make_client(daemon: Daemon | None, config: StackConfig, env: Mapping[str, str]) -> RouterClient:
    """Return a client of this project's own router."""
    return RouterClient(router_address(daemon, config).url, read_api_key(env, config.settings.api_key_env))


def running_router(project: Project) -> Daemon | None:
    """Return this project's router if it runs."""
    return running_daemon(project.router_pid)
