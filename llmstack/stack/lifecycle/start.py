"""Starting: the command line starts the router, the router owns everything else."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, NEXT, Channel, read_marker, write_marker
from llmstack.config.network import api_key, router_key
from llmstack.errors import LlmstackError
from llmstack.files import exclusive
from llmstack.process.daemon import spawn_daemon
from llmstack.process.identity import Daemon, read_pid_file, write_pid_file
from llmstack.process.ports import is_free, owner
from llmstack.process.stopping import stop_tree
from llmstack.serving.memory.survey import survey
from llmstack.stack.lifecycle.generated_files import chosen_llama_swap, write_litellm, write_llama_swap
from llmstack.stack.lifecycle.health import until_healthy, until_loaded
from llmstack.stack.lifecycle.stop import STOP_GRACE_S, stop_leftovers, take_down
from llmstack.stack.project import (
    Address,
    local_config,
    pinned_channel,
    queued_tiers,
    router_address,
    running_router,
)
from llmstack.stack.remote.router_client import RouterClient
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.serving.memory.survey import Survey


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start.

    Attributes:
        next: run the queued upgrades, whatever the project is pinned to.
        host: instead of `host` in models.ini; likewise `port`.
        wait: wait until the preloaded tier is resident.
    """

    next: bool = False
    host: str | None = None
    port: int | None = None
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` did.

    Attributes:
        already: it was running before.
        unavailable: tiers that cannot start, with reason and remedy.
        preloaded: the tier that was loaded, `state` what became of it.
        seconds: it took.
    """

    url: str
    channel: Channel
    pid: int
    already: bool
    unavailable: dict[str, str]
    preloaded: str | None = None
    state: str = ""
    detail: str = ""
    seconds: float = 0.0


def up(
    project: Project,
    env: Mapping[str, str],
    store: Path,
    options: StartOptions,
    *,
    tell: Callable[[str], None] = lambda _: None,
) -> Started:
    """Bring the stack up: trust, configuration, router, health, the preloaded model.

    Args:
        project: an installed project.
        env: for the router.
        store: the list of trusted projects.
        options: how.
        tell: called with what is being waited for.

    Raises:
        LlmstackError: it cannot run, or ended, or was stopped meanwhile; nothing is left running then.
    """
    began = time.monotonic()
    config, channel, found = checked(project, env, store, options)
    key = api_key(env, config.settings.api_key_env)
    with exclusive(project.lock, "start"):
        daemon = running_router(project)
        if daemon is None:
            address = prepare(project, config, found, env, options, store=store)
            spawned = _spawn(project, env, channel, options, address)
    if daemon is not None:
        already = _already(project, daemon, channel, config, found, options=options)
        until_healthy(project, daemon, RouterClient(already.url, key))
        return already
    client = RouterClient(address.url, key)
    try:
        tell("waiting for the router")
        until_healthy(project, spawned, client)
        status = until_loaded(project, spawned, client, tell) if options.wait else client.status()
    except BaseException:
        # Interrupted or failed: nothing is left half-started. What another command started stays.
        _abandon(project, spawned)
        raise
    fast = next((tier for tier in status["tiers"] if tier["name"] == status["preload"]), None)
    return Started(
        url=address.url,
        channel=channel,
        pid=spawned.identity.pid,
        already=False,
        unavailable=found.unavailable,
        preloaded=fast["name"] if fast else None,
        state=fast["state"] if fast else "",
        detail=fast["detail"] if fast else "",
        seconds=time.monotonic() - began,
    )


def checked(
    project: Project, env: Mapping[str, str], store: Path, options: StartOptions
) -> tuple[StackConfig, Channel, Survey]:
    """Return configuration, channel and survey of a project that may and can start.

    Raises:
        LlmstackError: it is not installed or not trusted, models.ini is wrong, the router would be open
            to the network, the swapper it asks for is missing, or no tier can start.
    """
    trust_store.refuse_unsafe_dir(project)
    pinned = pinned_channel(project)
    declared = local_config(project)  # before trust: mistakes are for whoever edits the file right now
    trust_store.require(project, store)
    channel = NEXT if options.next else pinned
    if options.next:
        queued_tiers(declared)
    config = declared.on(channel.runs)
    router_key(options.host or config.settings.host, config.settings, env)
    chosen_llama_swap(config, env)
    found = survey(config, env)
    if len(found.unavailable) == len(config.tiers):
        reasons = "".join(f"\n  {name}: {why}" for name, why in found.unavailable.items())
        raise LlmstackError(f"no tier can start:{reasons}", hint="`llmstack check` shows files and memory")
    return config, channel, found


def _already(
    project: Project,
    daemon: Daemon,
    channel: Channel,
    config: StackConfig,
    found: Survey,
    *,
    options: StartOptions,
) -> Started:
    """Report a stack that runs; on another channel or address than asked for it is an error."""
    active = read_marker(project.active_channel) or CURRENT
    if active != channel:
        flag = " --next" if channel == NEXT else ""
        raise LlmstackError(
            f"the stack runs on channel {active}, not {channel}", hint=f"switch with `llmstack restart{flag}`"
        )
    address = router_address(daemon, config)
    for flag, asked, has in (("host", options.host, address.host), ("port", options.port, address.port)):
        if asked is not None and asked != has:
            raise LlmstackError(
                f"the stack runs on {flag} {has}, not {asked}",
                hint=f"move it with `llmstack restart --{flag} {asked}`",
            )
    return Started(
        url=address.url,
        channel=active,
        pid=daemon.identity.pid,
        already=True,
        unavailable=found.unavailable,
    )


def prepare(
    project: Project,
    config: StackConfig,
    found: Survey,
    env: Mapping[str, str],
    options: StartOptions,
    *,
    store: Path,
) -> Address:
    """Return where a new router is to listen, with nothing in its way and what it reads written; lock held.

    Raises:
        LlmstackError: somebody else has the port.
    """
    address = refuse_taken_port(project, config, env, options)
    stop_leftovers(project)
    write_litellm(project, store, local_config(project))
    write_llama_swap(project, config, found, env, router_port=address.port)
    return address


def refuse_taken_port(
    project: Project, config: StackConfig, env: Mapping[str, str], options: StartOptions
) -> Address:
    """Return where a new router is to listen.

    Raises:
        LlmstackError: somebody has that port.
    """
    address = Address(options.host or config.settings.host, options.port or config.settings.router_port)
    if is_free(address.host, address.port):
        return address
    client = RouterClient(address.url, api_key(env, config.settings.api_key_env))
    who = owner(address.port)
    try:
        status = client.status()
    except LlmstackError:
        raise LlmstackError(
            f"port {address.port} is taken{f' by {who}' if who else ''}",
            hint="stop that program, or set another `router_port` in models.ini",
        ) from None
    if status["work_dir"] == str(project.work_dir):
        raise LlmstackError(
            f"a router of this project is at {address.url} already, and its pid file is gone",
            hint=f"end it yourself: {who or 'the process on that port'}",
        )
    raise LlmstackError(
        f"the router at {address.url} belongs to {status['work_dir']}",
        hint="use it from here with `llmstack install --external`, stop it there,"
        " or set other ports in this project's models.ini",
    )


def router_argv(project: Project, channel: Channel, options: StartOptions) -> list[str]:
    """Return the router's command line."""
    # -P: the project is the working directory, and no file of it may be imported
    argv = [sys.executable, "-P", "-m", "llmstack.router", "--work-dir", str(project.work_dir)]
    argv += ["--channel", channel.kind]
    if options.host:
        argv += ["--host", options.host]
    if options.port:
        argv += ["--port", str(options.port)]
    return argv


def _spawn(
    project: Project, env: Mapping[str, str], channel: Channel, options: StartOptions, address: Address
) -> Daemon:
    """Start the router and note it; the lock is held."""
    argv = router_argv(project, channel, options)
    _, identity = spawn_daemon(argv, env=env, cwd=project.work_dir, log=project.log("router"))
    daemon = Daemon(identity, tuple(argv), address.port)
    try:
        write_pid_file(project.router_pid, daemon)
        write_marker(project.active_channel, channel)
    except BaseException:
        stop_tree(identity, grace_s=0)
        raise
    return daemon


def _abandon(project: Project, daemon: Daemon) -> None:
    with contextlib.suppress(LlmstackError), exclusive(project.lock, "start"):
        noted = read_pid_file(project.router_pid)
        if noted is not None and noted.identity == daemon.identity:
            take_down(project, daemon, STOP_GRACE_S)
