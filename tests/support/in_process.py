"""Run commands in this process: in a new one, imports take ten times as long as a command."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import TYPE_CHECKING

from llmstack.cli import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path


def run_here(arguments: Sequence[str], env: Mapping[str, str], cwd: Path) -> tuple[int, str, str]:
    """Run a command as if started in `cwd` with `env` and no terminal; return exit code, stdout, stderr."""
    buffers = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(buffer, encoding="utf-8", write_through=True) for buffer in buffers)
    with (
        _environment(env),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _no_input(),
    ):
        code = run_command(arguments, dict(env))
    stdout, stderr = (buffer.getvalue().decode() for buffer in buffers)
    return code, stdout, stderr


@contextlib.contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Replace os.environ, which libraries read; COLUMNS fixes the width of help texts."""
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update({"COLUMNS": "80", **env})
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _no_input() -> Iterator[None]:
    before, sys.stdin = sys.stdin, io.TextIOWrapper(io.BytesIO())
    try:
        yield
    finally:
        sys.stdin = before
