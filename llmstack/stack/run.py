"""Running a coding agent wired to this stack."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack import trust
from llmstack.clients import opencode
from llmstack.errors import UsageError
from llmstack.stack.install import render_opencode, render_remote
from llmstack.stack.project import active_channel, local_config
from llmstack.stack.remote import fetch, remote_url
from llmstack.stack.start import StartOptions, up

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from llmstack.paths import Project

CLIENTS = ("opencode",)


def run(
    client: str,
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
        client: `opencode`.
        arguments: passed on as they are.
        project: whose stack it uses.
        env: of the client, before what pins it to this stack is added.
        store: the list of trusted projects.
        cwd: where it runs; what that repository says about providers is ignored.
        allow_plugins: let opencode run the plugins of that repository.
        tell: called with what is being waited for.

    Raises:
        LlmstackError: it is not installed, the stack cannot start, or the repository brings plugins.
    """
    if client not in CLIENTS:
        raise UsageError(f"no client is called `{client}`", hint=f"known: {', '.join(CLIENTS)}")
    program = opencode.find(env)
    if not allow_plugins:
        opencode.refuse_repository_plugins(cwd, Path(env.get("HOME") or Path.home()))
    more = (str(project.work_dir / "AGENTS.md"),)
    url = remote_url(project)
    if url is not None:
        trust.require(project, store)
        text = render_remote(project, fetch(url, env), more_instructions=more)
    else:
        now = active_channel(project)
        up(project, env, store, StartOptions(next=now.kind == "next", wait=False), tell=tell)
        channel = active_channel(project)
        config = local_config(project).on("next" if channel.kind == "next" else "current")
        text = render_opencode(project, config, more_instructions=more)
    child_env = opencode.child_env(env, config_json=text, config_path=project.opencode_json)
    command = [str(program), *arguments]
    return lambda: _wait(subprocess.Popen(command, env=child_env, cwd=cwd))


def _wait(process: subprocess.Popen[bytes]) -> int:
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # Ctrl-C is the client's; it decides whether it ends
