"""The router's process: `python -m llmstack.router --work-dir DIR --channel CHANNEL`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from llmstack.channel import Channel
from llmstack.config.network import require_router_key
from llmstack.config.trusted import open_trusted
from llmstack.errors import LlmstackError
from llmstack.files import remove_left_behind, write_atomic
from llmstack.llama_cpp.parent_watch import watch_stdin
from llmstack.paths import Project, UserDirs
from llmstack.process.output_log import rotating_log
from llmstack.router.app import RouterApp
from llmstack.router.auth import RequestAuth
from llmstack.router.composition import build_service
from llmstack.router.http.event_loop import new_loop
from llmstack.router.http.limits import HttpLimits
from llmstack.router.http.server import Server
from llmstack.router_proof import RouterIdentity, new_token, stretch_key
from llmstack.serving.litellm.program import copy_litellm_files
from llmstack.terminal_text import printable_line
from llmstack.upstream.client import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.router.service import Service


OPEN_FILES = 16_384  # 4 096 connections of clients, as many to servers, and some to spare
SPARE_FILES = 128  # for logs, pipes of model servers, and the event loop


def main() -> None:
    """Serve until SIGTERM."""
    options = _options()
    env = dict(os.environ)
    project = Project.at(options.work_dir, env)
    limits = allow_open_files()
    if options.foreground:
        # stdin is a pipe: the router ends with the command that holds its other end.
        watch_stdin(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        _log_to(project, env, foreground=options.foreground)
        remove_left_behind(project.state)
        _serve(options, project, env, limits)
    except LlmstackError as error:
        sys.exit(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))


def allow_open_files() -> HttpLimits:
    """Raise the soft limit of open files: each request takes two, and the usual 1 024 do not last.

    Returns:
        limits with as many connections as then can be open: one more gets a 503.
    """
    limits = HttpLimits()
    if sys.platform == "win32":
        return limits  # it has no such limit
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit of its own
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return limits
    return replace(limits, connections=max(1, min(limits.connections, (soft - SPARE_FILES) // 2)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llmstack.router", description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--channel", choices=("current", "next"), default="current")
    parser.add_argument("--host", help="instead of `host` in models.ini")
    parser.add_argument("--port", type=int, help="instead of `router_port` in models.ini")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args()


def _log_to(project: Project, env: Mapping[str, str], *, foreground: bool) -> None:
    level = _level(env)
    handlers: list[logging.Handler] = [rotating_log(project.log("router"))]
    if foreground:
        handlers.append(logging.StreamHandler())
    for handler in handlers:
        handler.setFormatter(_LogFormatter())
    if foreground:
        handlers[-1].setFormatter(_TerminalFormatter())
    logging.basicConfig(level=level, handlers=handlers)
    # Nothing shows these (Logging HOWTO, Optimization).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def _level(env: Mapping[str, str]) -> int:
    setting = env.get("LOG_LEVEL") or "INFO"
    level = int(setting) if setting.isdecimal() else logging.getLevelNamesMapping().get(setting.upper())
    if level is None:
        raise LlmstackError(
            f"LOG_LEVEL: expected `debug`, `info`, `warning`, `error` or a number, got `{setting}`"
        )
    return level


class _LogFormatter(logging.Formatter):
    """Writes time, level and message.

    Together with the way `access_log` logs, it takes 26 000 instructions for a line where the library's own
    way takes 84 000: 12 % of a chat of 2 KB (tests/benchmarks/instructions.py).
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback of an error."""
        time_text = f"{_format_second(int(record.created))},{int(record.msecs):03d}"
        line = f"{time_text} {record.levelname} {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _TerminalFormatter(_LogFormatter):
    """Writes what a terminal may show: errors quote the output of model servers."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without control characters."""
        return printable_line(super().format(record))


@lru_cache(maxsize=1)
def _format_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _serve(options: argparse.Namespace, project: Project, env: Mapping[str, str], limits: HttpLimits) -> None:
    dirs = UserDirs.from_env(env)
    # The command that started this process has verified the files, too; they may have changed since.
    trusted = open_trusted(project, dirs)
    if trusted.declared is None:
        raise LlmstackError(f"{project.models_ini}: no such file", hint="write one with `llmstack install`")
    channel = Channel(options.channel)
    config = trusted.declared.for_channel(channel.local_channel)
    host = options.host or config.settings.host
    port = options.port or config.settings.router_port
    key = require_router_key(host, config.settings, env)
    identity = RouterIdentity(new_token(), port, stretch_key(key) if key else None)
    auth = RequestAuth(host, config.settings.allowed_hosts, key, config.settings.api_key_env, identity.token)

    async def make_service() -> Service:
        return await build_service(
            project=project,
            channel=channel,
            config=config,
            auth=auth,
            identity=identity,
            upstream=Upstream(),
            env=env,
            dirs=dirs,
        )

    # Modules and configuration stay: to collect them again stopped every stream for 20 ms
    # (benchmarks/streams.py).
    gc.freeze()
    with _listen(host, port) as listening, asyncio.Runner(loop_factory=new_loop) as runner:
        # Not before this process has the port: another router of the project may run.
        private = trusted.private
        private.create()
        write_atomic(private.router_token, f"{identity.token}\n", mode=0o600)
        copy_litellm_files(trusted)
        try:
            runner.run(_run(Server(RouterApp(make_service), limits), listening))
        finally:
            with contextlib.suppress(OSError):
                private.router_token.unlink()


async def _run(server: Server, listening: socket.socket) -> None:
    """Serve until a signal arrives; a second signal ends requests in flight."""
    loop = asyncio.get_running_loop()
    # Not the loop's own signal handlers: Windows does not have them.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: loop.call_soon_threadsafe(server.stop))
    await server.serve(listening)


def _listen(host: str, port: int) -> socket.socket:
    """Listen on the port before anything is started.

    Raises:
        LlmstackError: the port is taken, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise LlmstackError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
