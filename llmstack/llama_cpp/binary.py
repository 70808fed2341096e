"""Which llama.cpp server runs the models: a native llama-server, else the bundled one."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "llama-server"
USUAL_PLACES = ("/opt/homebrew/bin", "/usr/local/bin", "/usr/bin", "~/.local/bin", "~/llama.cpp/build/bin")


@dataclass(frozen=True, slots=True)
class EngineBinary:
    """How to run one model server.

    Attributes:
        kind: `native` for a llama-server binary, `bundled` for the `engine` extra.
        path: the binary; the interpreter for the bundled one.
    """

    kind: Literal["native", "bundled"]
    path: Path

    def argv(self, flags: tuple[str, ...]) -> tuple[str, ...]:
        """Return the command line of a server with these flags; it ends when its stdin closes."""
        # -P: the project's directory, where this runs, is no place to import modules from.
        python = (sys.executable, "-P", "-m")
        if self.kind == "native":
            return (*python, "llmstack.llama_cpp.launcher", str(self.path), *flags)
        return (*python, "llmstack.llama_cpp.bundled", *flags)


def find_engine(env: Mapping[str, str]) -> EngineBinary:
    """Return the engine: `LLAMA_SERVER_BIN`, PATH, the usual places, else the bundled one.

    Raises:
        LlmstackError: there is none, or `LLAMA_SERVER_BIN` names no program.
    """
    named = env.get("LLAMA_SERVER_BIN")
    if named:
        found = shutil.which(Path(named).expanduser(), path=env.get("PATH", ""))
        if found is None:
            raise LlmstackError(
                f"LLAMA_SERVER_BIN: expected a program that can be run, got `{named}`",
                hint="correct it, or unset it to search PATH and then use the bundled engine",
            )
        return EngineBinary("native", Path(found).absolute())
    places = [env.get("PATH", ""), *(str(Path(place).expanduser()) for place in USUAL_PLACES)]
    for place in filter(None, places):
        found = shutil.which(NAME, path=place)
        if found and Path(found).is_absolute():  # never what lies in the directory we are in
            return EngineBinary("native", Path(found))
    if importlib.util.find_spec("xllamacpp") is not None:
        return EngineBinary("bundled", Path(sys.executable))
    raise LlmstackError(
        "no llama.cpp server was found: no `llama-server` on PATH, and the bundled engine is not installed",
        hint="pip install 'llmstack-local[engine]', or install llama.cpp and set LLAMA_SERVER_BIN",
    )
