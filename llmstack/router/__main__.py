"""The router's process: `python -m llmstack.router --work-dir DIR --channel CHANNEL`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from llmstack.channel import NEXT, Channel
from llmstack.config import load
from llmstack.engine.lifeline import on_parent_gone
from llmstack.errors import LlmstackError
from llmstack.paths import Project, UserDirs
from llmstack.process.child import rotating_log
from llmstack.router.app import App
from llmstack.router.guard import Guard, is_loopback
from llmstack.router.service import Service, build_service
from llmstack.router.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import FrameType

    from llmstack.config.model import StackConfig

KEEP_ALIVE_S = 75  # idle; shorter than that, a client would find the connection gone between two turns
DRAIN_S = 2.0  # requests in flight get this long after SIGTERM, then an error of their own


class Server(uvicorn.Server):
    """uvicorn's server, which ends what is still running itself rather than cutting it."""

    def __init__(self, config: uvicorn.Config, app: App) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting at once, end the requests in flight a little later."""
        super().handle_exit(sig, frame)
        loop = asyncio.get_running_loop()
        loop.call_soon_threadsafe(loop.call_later, DRAIN_S, self._app.drain)


def main() -> None:
    """Serve until SIGTERM."""
    options = _options()
    env = dict(os.environ)
    project = Project.at(options.work_dir, env)
    _log_to(project, env, foreground=options.foreground)
    if options.foreground:
        # Started with a pipe as stdin: ends with the command that holds its other end.
        on_parent_gone(lambda: os.kill(os.getpid(), signal.SIGTERM))
    try:
        _serve(options, project, env)
    except LlmstackError as error:
        sys.exit(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="llmstack.router", description=__doc__)
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--channel", choices=("current", "next"), default="current")
    parser.add_argument("--host", help="instead of `host` in models.ini")
    parser.add_argument("--port", type=int, help="instead of `router_port` in models.ini")
    parser.add_argument("--foreground", action="store_true")
    return parser.parse_args()


def _log_to(project: Project, env: Mapping[str, str], *, foreground: bool) -> None:
    level = env.get("LOG_LEVEL") or "INFO"
    handlers: list[logging.Handler] = [rotating_log(project.log("router"))]
    if foreground:
        handlers.append(logging.StreamHandler())
    logging.basicConfig(
        level=int(level) if level.isdigit() else level.upper(),
        format="%(asctime)s %(levelname)s %(message)s",
        handlers=handlers,
    )
    logging.getLogger("uvicorn").setLevel(logging.WARNING)


def _serve(options: argparse.Namespace, project: Project, env: Mapping[str, str]) -> None:
    declared = load(project.models_ini)
    channel = Channel(options.channel)
    config = declared.on("next" if channel == NEXT else "current")
    host = options.host or config.settings.host
    port = options.port or config.settings.router_port
    guard = _guard(host, config, env)

    async def make_service() -> Service:
        return build_service(
            project=project,
            channel=channel,
            config=config,
            guard=guard,
            upstream=Upstream(),
            env=env,
            bin_dir=UserDirs.from_env(env).bin,
        )

    app = App(make_service)
    server = Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="on",  # without its state the router must not serve
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(DRAIN_S) + 3,
        ),
        app,
    )
    with contextlib.suppress(SystemExit):  # how some versions of uvicorn say that start-up failed
        server.run(sockets=[_listen(host, port)])
    if not server.started:
        raise LlmstackError("the router could not start", hint=f"see {project.log('router')}")


def _listen(host: str, port: int) -> socket.socket:
    """Take the port before anything is started.

    Raises:
        LlmstackError: somebody else has it, or the address is not one of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise LlmstackError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error


def _guard(host: str, config: StackConfig, env: Mapping[str, str]) -> Guard:
    """Return the check of every request.

    Raises:
        LlmstackError: the router would be open to the network.
    """
    settings = config.settings
    key = env.get(settings.api_key_env, "").strip()
    if not is_loopback(host) and not key:
        raise LlmstackError(
            f"host {host} is reachable from the network, and ${settings.api_key_env} is not set",
            hint=f"export {settings.api_key_env}=… for the router and its clients, or use host = 127.0.0.1",
        )
    return Guard(host, settings.allowed_hosts, key, settings.api_key_env)


if __name__ == "__main__":
    main()
