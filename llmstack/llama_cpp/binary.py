"""Find the llama.cpp server that runs the models: a native llama-server, else the bundled one."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAM = "llama-server"
HELP_S = 10.0  # with a GPU, the program loads its libraries first
INSTALL_DIRS = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "~/.local/bin", "~/llama.cpp/build/bin")


@dataclass(frozen=True, slots=True)
class EngineBinary:
    """A program that can run as a model server.

    Attributes:
        kind: `native` for a llama-server binary, `bundled` for the server of the `engine` extra.
        path: the binary; for the bundled server the Python interpreter.
    """

    kind: Literal["native", "bundled"]
    path: Path

    def argv(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line of a server with these flags. The server ends when its stdin closes."""
        # -P: do not import modules from the current directory, which is the project's.
        python = (sys.executable, "-P", "-m")
        if self.kind == "native":
            return (*python, "llmstack.llama_cpp.launcher", str(self.path), *flags)
        return (*python, "llmstack.llama_cpp.bundled", *flags)


def find_engine(env: Mapping[str, str]) -> EngineBinary:
    """Return the first engine of `LLAMA_SERVER_BIN`, PATH, the usual directories and the bundled server.

    Raises:
        LlmstackError: there is no engine, or `LLAMA_SERVER_BIN` does not name a program.
    """
    configured = env.get("LLAMA_SERVER_BIN")
    if configured:
        binary = shutil.which(Path(configured).expanduser(), path=env.get("PATH", ""))
        if binary is None:
            raise LlmstackError(
                f"LLAMA_SERVER_BIN: expected a program that can be run, got `{configured}`",
                hint="correct it, or unset it to search PATH and then use the bundled engine",
            )
        return EngineBinary("native", Path(binary).absolute())
    directories = [env.get("PATH", ""), *(str(Path(directory).expanduser()) for directory in INSTALL_DIRS)]
    for directory in filter(None, directories):
        binary = shutil.which(PROGRAM, path=directory)
        if binary and Path(binary).is_absolute():  # a relative path would be a file of the project
            return EngineBinary("native", Path(binary))
    if importlib.util.find_spec("xllamacpp") is not None:
        return EngineBinary("bundled", Path(sys.executable))
    raise LlmstackError(
        "no llama.cpp server was found: no `llama-server` on PATH, and the bundled engine is not installed",
        hint="pip install 'llmstack-local[engine]', or install llama.cpp and set LLAMA_SERVER_BIN",
    )


async def supports_unix_sockets(engine: EngineBinary, env: Mapping[str, str]) -> bool:
    """Return whether `--host NAME.sock` makes an engine listen on a Unix socket.

    llama-server has it since https://github.com/ggml-org/llama.cpp/pull/12613, and its help says so.
    """
    if os.name == "nt" or engine.kind == "bundled":
        return os.name != "nt"
    process = await asyncio.create_subprocess_exec(
        *engine.argv(("--help",)),
        env=dict(env),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(HELP_S):
            return b".sock" in await process.stdout.read() if process.stdout is not None else False
    except TimeoutError:
        return False
    finally:
        if process.stdin is not None:
            process.stdin.close()  # which ends it, if it still runs
        await process.wait()
