"""Waiting for a router that was started: until it answers, and until its first model is loaded."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from llmstack.errors import LlmstackError
from llmstack.process.identity import read_pid_file
from llmstack.stack.remote.router_client import RouterUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.paths import Project
    from llmstack.process.identity import Daemon
    from llmstack.stack.remote.router_client import RouterClient

HEALTH_S = 30.0  # the router imports and listens; models load afterwards
PROBE_S = 0.05
WATCH_S = 0.1
LAST_LINES = 8


def until_healthy(project: Project, daemon: Daemon, client: RouterClient) -> None:
    """Wait until the router answers.

    Raises:
        LlmstackError: it ended, was stopped, or does not answer in time.
    """
    deadline = time.monotonic() + HEALTH_S
    while True:
        _refuse_if_ended(project, daemon)
        try:
            client.models_ini()
        except RouterUnreachableError:
            if time.monotonic() > deadline:
                raise LlmstackError(
                    f"the router did not answer within {HEALTH_S:g} s", hint="see `llmstack logs router`"
                ) from None
            time.sleep(PROBE_S)
        else:
            _refuse_if_ended(project, daemon)  # what answered must be it
            return


def until_loaded(
    project: Project, daemon: Daemon, client: RouterClient, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Wait until the preloaded tier is resident or cannot be; return the router's status."""
    while True:
        _refuse_if_ended(project, daemon)
        with contextlib.suppress(RouterUnreachableError):
            status = client.status()
            waiting = [
                tier
                for tier in status["tiers"]
                if tier["name"] == status["preload"] and tier["state"] in {"loading", "idle"}
            ]
            if not waiting:
                return status
            tell(f"loading {waiting[0]['name']} ({waiting[0]['model']})")
        time.sleep(WATCH_S)


def _refuse_if_ended(project: Project, daemon: Daemon) -> None:
    """Raise if the router ended, or if another command stopped it."""
    if daemon.identity.alive:
        return
    noted = read_pid_file(project.router_pid)
    stopping = not project.active_channel.exists()  # `stop` removes it first, the pid file last
    if stopping or noted is None or noted.identity != daemon.identity:
        raise LlmstackError("the stack was stopped while it was starting")
    log = project.log("router")
    lines = (
        log.read_text(encoding="utf-8", errors="replace").splitlines()[-LAST_LINES:] if log.is_file() else []
    )
    said = next((line for line in reversed(lines) if line.startswith("error: ")), "")
    if said:
        raise LlmstackError(f"the router ended: {said.removeprefix('error: ')}")
    shown = "".join(f"\n  {line}" for line in lines)
    raise LlmstackError(f"the router ended at once{shown}", hint=f"see {log}")
