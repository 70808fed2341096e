"""Start a stack: this process starts the router, and the router owns everything else."""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, NEXT, Channel, write_marker
from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock
from llmstack.process.daemon import spawn_daemon
from llmstack.process.identity import Daemon, read_pid_file, write_pid_file
from llmstack.process.ports import is_free, port_owner, port_taken_error
from llmstack.process.stopping import stop_tree
from llmstack.stack.lifecycle.generated_files import render_litellm, write_llama_swap
from llmstack.stack.lifecycle.health import wait_until_healthy, wait_until_loaded
from llmstack.stack.lifecycle.start_plan import StartOptions, StartPlan, verify_can_start
from llmstack.stack.lifecycle.stop import STOP_GRACE_S, stop_leftovers, stop_router
from llmstack.stack.project import Address, make_client, router_address, running_router
from llmstack.stack.remote.router_client import RouterClient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import Project


@dataclass(frozen=True, slots=True)
class StartResult:
    """What `start_stack` did.

    Attributes:
        was_running: the stack was already running.
        unavailable: tiers that cannot start, with reason and remedy.
        preloaded: the tier that is loaded at the start, `state` and `detail` what became of it.
        seconds: how long the start took.
    """

    url: str
    channel: Channel
    pid: int
    was_running: bool
    unavailable: dict[str, str]
    preloaded: str | None = None
    state: str = ""
    detail: str = ""
    seconds: float = 0.0


def start_stack(
    trusted: TrustedProject,
    env: Mapping[str, str],
    options: StartOptions,
    *,
    plan: StartPlan | None = None,
    notify: Callable[[str], None] = lambda _: None,
) -> StartResult:
    """Start the router and wait until it answers and, unless told otherwise, its first model is loaded.

    Args:
        trusted: an installed project.
        env: environment of the router.
        options: how to start.
        plan: the result of `verify_can_start`, if that was called already.
        notify: called with a description of each step that takes time.

    Raises:
        LlmstackError: the stack cannot run, or it ended or was stopped meanwhile. Nothing is left running.
    """
    started_at = time.monotonic()
    plan = plan or verify_can_start(trusted, env, options)
    project = trusted.project
    with exclusive_lock(project.lock, "start"):
        daemon = running_router(project)
        if daemon is None:
            address = prepare_router(trusted, plan, options)
            spawned = _spawn_router(project, env, plan.channel, options, address)
    if daemon is not None:
        running_address = router_address(daemon, plan.config)
        running = _describe_running(trusted, daemon, plan, options)
        wait_until_healthy(project, daemon, make_client(trusted, running_address))
        return running
    client = make_client(trusted, address)
    try:
        notify("waiting for the router")
        wait_until_healthy(project, spawned, client)
        status = wait_until_loaded(project, spawned, client, notify) if options.wait else client.status()
    except BaseException:
        # Also after Ctrl-C, nothing is left half-started. A router that another command started stays.
        _stop_if_current(project, spawned)
        raise
    preloaded = next((tier for tier in status.tiers if tier.name == status.preload), None)
    return StartResult(
        url=address.url,
        channel=plan.channel,
        pid=spawned.identity.pid,
        was_running=False,
        unavailable=plan.survey.unavailable,
        preloaded=preloaded.name if preloaded else None,
        state=preloaded.state if preloaded else "",
        detail=preloaded.detail if preloaded else "",
        seconds=time.monotonic() - started_at,
    )


def prepare_router(trusted: TrustedProject, plan: StartPlan, options: StartOptions) -> Address:
    """Make way for a new router and write the files it reads; return its address. Needs the project's lock.

    Raises:
        LlmstackError: the port is taken, or a file cannot be written.
    """
    address = refuse_taken_port(trusted.project, plan.config, options)
    stop_leftovers(trusted.project)
    trusted = trusted.write(render_litellm(trusted, plan.declared))
    write_llama_swap(trusted, plan.config, plan.survey, router_port=address.port)
    return address


def refuse_taken_port(project: Project, config: StackConfig, options: StartOptions) -> Address:
    """Return the address a new router will listen on.

    Raises:
        LlmstackError: another process listens on that port.
    """
    address = Address(options.host or config.settings.host, options.port or config.settings.router_port)
    if is_free(address.host, address.port):
        return address
    try:
        status = RouterClient(address.url).status()  # without a key: whatever listens there may be asked
    except LlmstackError:
        raise port_taken_error(address.port, setting="router_port") from None
    if status.work_dir == str(project.work_dir):
        raise LlmstackError(
            f"a router of this project already runs at {address.url}, but its pid file is missing",
            hint=f"stop it yourself: {port_owner(address.port) or 'the process on that port'}",
        )
    raise LlmstackError(
        f"the router at {address.url} belongs to {status.work_dir}",
        hint="use it from here with `llmstack install --external`, stop it there,"
        " or set other ports in this project's models.ini",
    )


def router_argv(project: Project, channel: Channel, options: StartOptions) -> list[str]:
    """Return the router's command line."""
    # -P: the project is the working directory, and none of its files may be imported
    argv = [sys.executable, "-P", "-m", "llmstack.router", "--work-dir", str(project.work_dir)]
    argv += ["--channel", channel.kind]
    if options.host:
        argv += ["--host", options.host]
    if options.port:
        argv += ["--port", str(options.port)]
    return argv


def _describe_running(
    trusted: TrustedProject, daemon: Daemon, plan: StartPlan, options: StartOptions
) -> StartResult:
    """Return the result for a stack that already runs.

    Raises:
        LlmstackError: it runs on another channel or address than requested.
    """
    active = trusted.read_active_channel() or CURRENT
    if active != plan.channel:
        flag = " --next" if plan.channel == NEXT else ""
        raise LlmstackError(
            f"the stack runs on channel {active}, not {plan.channel}",
            hint=f"switch with `llmstack restart{flag}`",
        )
    address = router_address(daemon, plan.config)
    for flag, requested, actual in (
        ("host", options.host, address.host),
        ("port", options.port, address.port),
    ):
        if requested is not None and requested != actual:
            raise LlmstackError(
                f"the stack runs on {flag} {actual}, not {requested}",
                hint=f"move it with `llmstack restart --{flag} {requested}`",
            )
    return StartResult(
        url=address.url,
        channel=active,
        pid=daemon.identity.pid,
        was_running=True,
        unavailable=plan.survey.unavailable,
    )


def _spawn_router(
    project: Project, env: Mapping[str, str], channel: Channel, options: StartOptions, address: Address
) -> Daemon:
    """Start the router process and write its pid file. Needs the project's lock."""
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


def _stop_if_current(project: Project, daemon: Daemon) -> None:
    """Stop a router unless another command has replaced it."""
    with contextlib.suppress(LlmstackError), exclusive_lock(project.lock, "start"):
        current = read_pid_file(project.router_pid)
        if current is not None and current.identity == daemon.identity:
            stop_router(project, daemon, STOP_GRACE_S)
