"""The command line: registers the commands, and turns errors into messages and exit codes."""

from __future__ import annotations

import errno
import io
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
from llmstack.terminal_text import GuardedStream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import FrameType

EXIT_INTERRUPTED = 130  # as shells report SIGINT
EXIT_SIGNALS = ("SIGTERM", "SIGHUP")  # SIGHUP: the terminal was closed
# Errors of `llmstack … > file` if the disk is full or broken.
OUTPUT_ERRNOS = {errno.ENOSPC, errno.EIO, errno.EFBIG, errno.EDQUOT}
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
# `run` passes everything after the client's name to the client.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


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

    New here? `llmstack demo` shows everything with tiny models; `llmstack install` sets up a project.
    """


def build_app() -> typer.Typer:
    """Return the Typer application."""
    app = typer.Typer(
        name="llmstack",
        no_args_is_help=True,
        rich_markup_mode=None,  # rich would double the time of --help
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    for name, command in COMMANDS.items():
        app.command(
            name,
            cls=install.InstallCommand if name == "install" else None,
            context_settings=PASS_THROUGH if name == "run" else None,
        )(command)
    return app


def run_command(args: Sequence[str], env: Mapping[str, str]) -> int:
    """Run one command and return its exit code; print expected errors with their hints."""
    context, code = CliContext(env), 0
    try:
        build_app()(list(args), obj=context, prog_name="llmstack", standalone_mode=True)
    except SystemExit as exit_:  # Typer always raises it
        code = int(exit_.code or 0)
    except LlmstackError as error:
        context.console.error(error)
        code = error.exit_code
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    if code == EXIT_INTERRUPTED:
        context.console.end_line()
    return code


def _exit_on_signal(number: int, _frame: FrameType | None) -> None:
    """Raise SystemExit, so that a command that is interrupted cleans up as on Ctrl-C."""
    sys.exit(128 + number)


def _prepare_output() -> None:
    """Let no text fail because the output cannot show it, nor give commands to a terminal."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):  # None if the parent closed it
            stream.reconfigure(errors="replace" if name == "stdout" else "backslashreplace")
            if stream.isatty():
                setattr(sys, name, GuardedStream(stream))


def main() -> None:
    """Run the command line."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `llmstack logs | head` exits quietly
    for name in EXIT_SIGNALS:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:  # `nohup` ignores SIGHUP
            signal.signal(number, _exit_on_signal)
    env = dict(os.environ)
    _prepare_output()
    try:
        code = run_command(sys.argv[1:], env)
        if sys.stdout is not None:  # None if the parent closed it
            sys.stdout.flush()
    except OSError as error:
        if error.errno not in OUTPUT_ERRNOS or error.filename is not None:
            raise
        code = 1
        CliContext(env).console.error(LlmstackError(f"cannot write the output: {error.strerror}"))
        # What is still buffered would fail again when Python flushes it on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)
