"""The command line without a process for it: what a new one imports takes ten times what a command does."""

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
    """Run a command as if started there with this environment, piped; return exit code, stdout, stderr."""
    written = io.BytesIO(), io.BytesIO()
    out, err = (io.TextIOWrapper(buffer, encoding="utf-8", write_through=True) for buffer in written)
    with (
        _environment(env),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        _no_input(),
    ):
        code = run_command(arguments, dict(env))
    said, complained = (buffer.getvalue().decode() for buffer in written)
    return code, said, complained


@contextlib.contextmanager
def _environment(env: Mapping[str, str]) -> Iterator[None]:
    """Libraries look into os.environ; COLUMNS as no terminal of ours is to decide how wide help is."""
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
