"""Running a coding agent wired to this stack."""

from __future__ import annotations

import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.clients.base import Wiring, find
from llmstack.clients.claude import Claude
from llmstack.clients.codex import Codex
from llmstack.clients.opencode import Opencode
from llmstack.config.model import Role
from llmstack.config.network import api_key
from llmstack.errors import UsageError
from llmstack.generators.opencode import AUTO, auto_limits, small_model
from llmstack.stack.install.install import render_opencode, render_remote
from llmstack.stack.lifecycle.start import StartOptions, up
from llmstack.stack.project import active_channel, local_config, router_address, running_router
from llmstack.stack.remote.remote_router import fetch, remote_url
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmstack.clients.base import Client
    from llmstack.paths import Project

CLIENTS: tuple[Client, ...] = (Opencode(), Claude(), Codex())


def run(
    name: str,
    arguments: Sequence[str],
    project: Project,
    env: Mapping[str, str],
    store: Path,
    *,
    cwd: Path,
    allow_plugins: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Callable[[], int]:
    """Make a client ready to run, starting the stack where needed; call the result to run it.

    That waits until the client has ended and returns its exit code.

    Args:
        name: of the client.
        arguments: passed on as they are.
        project: whose stack it uses.
        env: of the client, before what pins it to this stack is added.
        store: the list of trusted projects.
        cwd: where it runs; what that repository says about providers is ignored.
        allow_plugins: let the client run what that repository brings: plugins, hooks, MCP servers.
        tell: called with what is being waited for.

    Raises:
        LlmstackError: it is not installed, the stack cannot start, or the repository brings plugins.
    """
    client = next((client for client in CLIENTS if client.name == name), None)
    if client is None:
        known = ", ".join(client.name for client in CLIENTS)
        raise UsageError(f"no client is called `{name}`", hint=f"known: {known}")
    if remote_url(project) is not None:
        trust_store.require(project, store)  # a stack of its own asks when it starts
    program = find(client, env)
    if not allow_plugins:
        client.refuse(cwd, Path(env.get("HOME") or Path.home()))
    wiring = replace(_wiring(project, env, store, tell), cwd=cwd, trusting=allow_plugins)

    def ready() -> int:
        with tempfile.TemporaryDirectory(prefix="llmstack-run-") as scratch:
            launch = client.launch(wiring, Path(scratch))
            command = [str(program), *launch.arguments, *arguments]
            return _wait(subprocess.Popen(command, env=launch.env, cwd=cwd))

    return ready


def _wiring(project: Project, env: Mapping[str, str], store: Path, tell: Callable[[str], None]) -> Wiring:
    """Return what a client is told of the router, which runs then."""
    more = (str(project.work_dir / "AGENTS.md"),)
    url = remote_url(project)
    if url is not None:
        remote = fetch(url, env)
        config, opencode_json = remote.config, render_remote(project, remote, more_instructions=more)
    else:
        now = active_channel(project)
        up(project, env, store, StartOptions(next=now.kind == "next", wait=False), tell=tell)
        config = local_config(project).on(active_channel(project).runs)
        url = router_address(running_router(project), config).url
        opencode_json = render_opencode(project, config, more_instructions=more)
    context, output = auto_limits(config)
    agent, ultra = config.by_role(Role.AGENT), config.by_role(Role.ULTRA)
    return Wiring(
        url=url,
        key=api_key(env, config.settings.api_key_env) or None,
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
        trusting=False,
    )


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C is the client's; it decides whether it ends
