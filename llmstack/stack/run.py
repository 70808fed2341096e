"""Run a coding agent that is wired to this stack."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.clients.base import StackAccess, find_executable
from llmstack.clients.claude import Claude
from llmstack.clients.codex import Codex
from llmstack.clients.opencode import Opencode
from llmstack.config.model import Role
from llmstack.config.network import read_api_key
from llmstack.errors import UsageError
from llmstack.generators.opencode import AUTO, auto_limits, small_model
from llmstack.stack.install.project_files import render_opencode, render_remote
from llmstack.stack.lifecycle.start import start_stack
from llmstack.stack.lifecycle.start_plan import StartOptions, verify_can_start
from llmstack.stack.project import active_channel
from llmstack.stack.remote.remote_router import fetch_router

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmstack.clients.base import Client
    from llmstack.config.trusted import TrustedProject

CLIENTS: tuple[Client, ...] = (Opencode(), Claude(), Codex())


def prepare_client(
    name: str,
    args: Sequence[str],
    trusted: TrustedProject,
    env: Mapping[str, str],
    *,
    cwd: Path,
    allow_plugins: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Callable[[], int]:
    """Prepare to run a client, starting the stack if necessary; return a function that runs it.

    That function waits until the client has ended and returns its exit code.

    Args:
        name: the client's name.
        args: the client's own arguments.
        trusted: the project whose stack it uses.
        env: the client's environment, before the variables that pin it to this stack are added.
        cwd: its working directory. What the repository there says about providers is ignored.
        allow_plugins: let the client run what that repository brings: plugins, hooks, MCP servers.
        notify: called with a description of each step that takes time.

    Raises:
        LlmstackError: the client is not installed, the stack cannot start, or the repository brings plugins.
        UsageError: there is no such client.
    """
    client = next((client for client in CLIENTS if client.name == name), None)
    if client is None:
        names = ", ".join(client.name for client in CLIENTS)
        raise UsageError(f"no client is called `{name}`", hint=f"there are {names}")
    program = find_executable(client, env)
    if not allow_plugins:
        client.check_repository(cwd, Path(env.get("HOME") or Path.home()))
    access = replace(_wire(trusted, env, notify), cwd=cwd, trusts_repository=allow_plugins)

    def run() -> int:
        with tempfile.TemporaryDirectory(prefix="llmstack-run-") as scratch:
            launch = client.launch(access, Path(scratch))
            command = [str(program), *launch.arguments, *args]
            return _wait(subprocess.Popen(command, env=launch.env, cwd=cwd))

    return run


def _wire(trusted: TrustedProject, env: Mapping[str, str], notify: Callable[[str], None]) -> StackAccess:
    """Start the stack if it does not run, and return what a client needs to know about its router."""
    project = trusted.project
    more_instructions = (str(project.work_dir / "AGENTS.md"),)
    url = trusted.remote_url
    if url is not None:
        remote = fetch_router(url, env)
        config = remote.config
        opencode_json = render_remote(project, remote, more_instructions=more_instructions)
    else:
        options = StartOptions(next=active_channel(trusted).kind == "next", wait=False)
        plan = verify_can_start(trusted, env, options)
        url = start_stack(trusted, env, options, plan=plan, notify=notify).url
        config = plan.config
        opencode_json = render_opencode(project, config, more_instructions=more_instructions)
    context, output = auto_limits(config)
    agent, ultra = config.by_role(Role.AGENT), config.by_role(Role.ULTRA)
    return StackAccess(
        url=url,
        key=read_api_key(env, config.settings.api_key_env) or None,
        key_env=config.settings.api_key_env,
        context=context,
        output=output,
        fast=small_model(config),
        agent=agent.name if agent else AUTO,
        ultra=ultra.name if ultra else AUTO,
        work_dir=project.work_dir,
        cwd=project.work_dir,
        env=env,
        opencode_json=opencode_json,
        opencode_path=project.opencode_json,
        trusts_repository=False,
    )


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C reaches the client too, which decides whether to end
