"""Running the stack as a part of this process: for systemd and containers."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

from llmstack.channel import write_marker
from llmstack.errors import LlmstackError
from llmstack.files import exclusive
from llmstack.process.identity import Daemon, Identity, write_pid_file
from llmstack.stack.lifecycle.start import StartOptions, checked, prepare, router_argv
from llmstack.stack.lifecycle.stop import forget
from llmstack.stack.project import router_address, running_router

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import FrameType

    from llmstack.paths import Project


def run_foreground(project: Project, env: Mapping[str, str], store: Path, options: StartOptions) -> int:
    """Run the router until it ends or this process is told to; return its exit code.

    The router holds the other end of a pipe as its stdin, so it ends even when this process is killed.

    Raises:
        LlmstackError: the stack cannot start, or runs already.
    """
    config, channel, found = checked(project, env, store, options)
    with exclusive(project.lock, "start"):
        if (daemon := running_router(project)) is not None:
            url = router_address(daemon, config).url
            raise LlmstackError(f"the stack runs already, at {url}", hint="stop it first: `llmstack stop`")
        address = prepare(project, config, found, env, options, store=store)
        argv = [*router_argv(project, channel, options), "--foreground"]
        process = subprocess.Popen(argv, env=dict(env), cwd=project.work_dir, stdin=subprocess.PIPE)
        identity = Identity.of(process.pid)
        if identity is None:
            raise LlmstackError("the router ended at once", hint=f"see {project.log('router')}")
        daemon = Daemon(identity, tuple(argv), address.port)
        write_pid_file(project.router_pid, daemon)
        write_marker(project.active_channel, channel)

    def pass_on(_signum: int, _frame: FrameType | None) -> None:
        process.terminate()

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGINT, pass_on)
    code = process.wait()
    with exclusive(project.lock, "start"):
        forget(project, daemon)
    return 0 if code == -signal.SIGTERM else max(code, 0) or int(code < 0)
