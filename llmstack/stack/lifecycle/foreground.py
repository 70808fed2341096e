"""Run the stack in the foreground, for systemd and containers."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from llmstack.channel import write_marker
from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock
from llmstack.process.identity import Daemon, Identity, write_pid_file
from llmstack.stack.lifecycle.start import prepare_router, router_argv
from llmstack.stack.lifecycle.start_plan import StartOptions, verify_can_start
from llmstack.stack.lifecycle.stop import remove_state_of
from llmstack.stack.project import router_address, running_router

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from llmstack.config.trusted import TrustedProject


def run_foreground(trusted: TrustedProject, env: Mapping[str, str], options: StartOptions) -> int:
    """Run the router until it ends or this process gets a signal; return its exit code.

    The router's stdin is a pipe from this process, so the router ends even if this process is killed.

    Raises:
        LlmstackError: the stack cannot start, or is already running.
    """
    plan = verify_can_start(trusted, env, options)
    project = trusted.project
    with exclusive_lock(project.lock, "start"):
        if (daemon := running_router(project)) is not None:
            url = router_address(daemon, plan.config).url
            raise LlmstackError(
                f"the stack is already running at {url}", hint="stop it first: `llmstack stop`"
            )
        address = prepare_router(trusted, plan, options)
        argv = [*router_argv(project, plan.channel, options), "--foreground"]
        process = subprocess.Popen(argv, env=dict(env), cwd=project.work_dir, stdin=subprocess.PIPE)
        identity = Identity.from_pid(process.pid)
        if identity is None:
            raise LlmstackError("the router ended at once", hint=f"see {project.log('router')}")
        daemon = Daemon(identity, tuple(argv), address.port)
        write_pid_file(project.router_pid, daemon)
        write_marker(project.active_channel, plan.channel)

    def terminate_router(_signum: int, _frame: FrameType | None) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, terminate_router)
    signal.signal(signal.SIGINT, terminate_router)
    code = process.wait()
    with exclusive_lock(project.lock, "start"):
        remove_state_of(project, daemon)
    return 0 if code == -signal.SIGTERM else max(code, 0) or int(code < 0)
