"""Wait for a router that was started: until it answers, and until its first model is loaded."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.process.identity import read_pid_file
from llmstack.stack.remote.router_client import RouterUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.paths import Project
    from llmstack.process.identity import Daemon
    from llmstack.stack.remote.router_client import RouterClient
    from llmstack.stack.remote.router_documents import StatusDocument

HEALTH_TIMEOUT_S = 30.0  # for imports and listening; models load afterwards
HEALTH_POLL_S = 0.05
LOAD_POLL_S = 0.1
LOG_LINES = 8
ERROR_PREFIX = "error: "


def wait_until_healthy(project: Project, daemon: Daemon, client: RouterClient) -> None:
    """Wait until the router answers.

    Raises:
        LlmstackError: it ended, was stopped, or does not answer in time.
    """
    deadline = time.monotonic() + HEALTH_TIMEOUT_S
    while True:
        _raise_if_ended(project, daemon)
        try:
            client.models_ini()
        except RouterUnreachableError:
            if time.monotonic() > deadline:
                raise LlmstackError(
                    f"the router did not answer within {HEALTH_TIMEOUT_S:g} s",
                    hint="see `llmstack logs router`",
                ) from None
            time.sleep(HEALTH_POLL_S)
        else:
            _raise_if_ended(project, daemon)  # otherwise another process on that port has answered
            return


def wait_until_loaded(
    project: Project, daemon: Daemon, client: RouterClient, notify: Callable[[str], None]
) -> StatusDocument:
    """Wait until the preloaded tier is loaded or has failed to load; return the router's status."""
    while True:
        _raise_if_ended(project, daemon)
        with contextlib.suppress(RouterUnreachableError):
            status = client.status()
            pending = [
                tier
                for tier in status.tiers
                if tier.name == status.preload and tier.state in {"loading", "idle"}
            ]
            if not pending:
                return status
            notify(f"loading {pending[0].name} ({pending[0].model})")
        time.sleep(LOAD_POLL_S)


def _raise_if_ended(project: Project, daemon: Daemon) -> None:
    """Raise LlmstackError if the router ended by itself or another command stopped it."""
    if daemon.identity.is_alive:
        return
    current = read_pid_file(project.router_pid)
    is_stopping = not project.active_channel.exists()  # `stop` removes it first, the pid file last
    if is_stopping or current is None or current.identity != daemon.identity:
        raise LlmstackError("the stack was stopped while it was starting")
    log = project.log("router")
    lines = (
        log.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES:] if log.is_file() else []
    )
    error = next((line for line in reversed(lines) if line.startswith(ERROR_PREFIX)), "")
    if error:
        raise LlmstackError(f"the router ended: {error.removeprefix(ERROR_PREFIX)}")
    excerpt = "".join(f"\n  {line}" for line in lines)
    raise LlmstackError(f"the router ended at once{excerpt}", hint=f"see {log}")
