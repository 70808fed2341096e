"""The command line: registers the commands, and is the one place where errors are caught."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands import (
    activate,
    ask,
    cache,
    check,
    demo,
    download,
    help_,
    install,
    install_llama_swap,
    load,
    logs,
    mcp,
    promote,
    reload,
    restart,
    route,
    run,
    setup,
    start,
    status,
    stop,
    trust,
    unload,
    use,
)
from llmstack.context import CliContext
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

INTERRUPTED = 130
ENDED_BY = ("SIGTERM", "SIGHUP")  # SIGHUP: the terminal was closed
OUTPUT_LOST = {errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT}  # `llmstack … > file` on a full disk
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "setup": setup.setup,
    "install": install.install,
    "install-llama-swap": install_llama_swap.install_llama_swap,
    "download": download.download,
    "start": start.start,
    "stop": stop.stop,
    "restart": restart.restart,
    "reload": reload.reload,
    "status": status.status,
    "check": check.check,
    "route": route.route,
    "ask": ask.ask,
    "use": use.use,
    "run": run.run,
    "logs": logs.logs,
    "load": load.load,
    "unload": unload.unload,
    "promote": promote.promote,
    "cache": cache.cache,
    "mcp": mcp.mcp,
    "activate": activate.activate,
    "trust": trust.trust,
    "help": help_.help_,
}
# What follows the client's name is the client's own.
PASSED_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def _version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"llmstack {version('llmstack-local')}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One local endpoint in front of every model you can reach, with `auto` to pick the right one.

    First time? `llmstack demo` shows it all with tiny models; `llmstack install` sets a project up.
    """


def build() -> typer.Typer:
    """Return the Typer application."""
    app = typer.Typer(
        name="llmstack",
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help: rich would double the time that --help takes
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        app.command(
            name,
            cls=install.InstallCommand if name == "install" else None,
            context_settings=PASSED_ON if name == "run" else None,
        )(command)
    return app


def run_command(arguments: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command and return its exit code; every expected error is printed here, with its hint."""
    app, code = CliContext(env), 0
    try:
        build()(list(arguments), obj=app, prog_name="llmstack", standalone_mode=True)
    except SystemExit as ended:  # how Typer ends, with a number or with nothing
        code = int(ended.code or 0)
    except LlmstackError as error:
        app.console.error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = INTERRUPTED
    if code == INTERRUPTED:
        app.console.interrupted()
    return code


def _end(number: int, _frame: FrameType | None) -> None:
    """End as by Ctrl-C: what was started half is taken down."""
    sys.exit(128 + number)


def main() -> None:
    """Run the command line."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `llmstack logs | head` ends quietly
    for name in ENDED_BY:
        number = getattr(signal, name, None)  # not all of them are there on Windows
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # as `nohup` has it
            signal.signal(number, _end)
    env = dict(os.environ)
    try:
        code = run_command(sys.argv[1:], env)
        if sys.stdout is not None:  # None: it was closed
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in OUTPUT_LOST or error.filename is not None:
            raise
        code = 1
        CliContext(env).console.error(LlmstackError(f"cannot write the output: {error.strerror}"))
        # What is still held back would fail again while Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
