"""What a coding agent is given to run on this stack, and what a client makes of it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Wiring:
    """The stack as a client sees it.

    Attributes:
        url: of the router, without `/v1`.
        key: that the router asks for; None where it asks for none. `key_env` is the variable that holds it.
        context: window of `auto` in tokens; `output` the longest answer to ask for.
        fast: the model for small chores; likewise `agent` and `ultra`, `auto` where there is none.
        work_dir: the project.
        cwd: where the client runs.
        env: of the command.
        opencode_json: text of the project's opencode.json; `opencode_path` where it is on disk.
        trusting: what the repository brings may run.
    """

    url: str
    key: str | None
    key_env: str
    context: int
    output: int
    fast: str
    agent: str
    ultra: str
    work_dir: Path
    cwd: Path
    env: Mapping[str, str]
    opencode_json: str
    opencode_path: Path
    trusting: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How a client is started: what goes before the user's own arguments, and its environment."""

    arguments: tuple[str, ...]
    env: dict[str, str]


class Client(Protocol):
    """One coding agent."""

    @property
    def name(self) -> str:
        """The program, and what `run` calls it."""

    @property
    def package(self) -> str:
        """Its npm package."""

    def refuse(self, cwd: Path, home: Path) -> None:
        """Raise where it would run code of the repository and cannot be told not to.

        Raises:
            LlmstackError: names the files.
        """

    def launch(self, wiring: Wiring, scratch: Path) -> Launch:
        """Return how it is started, pinned to this stack.

        Args:
            wiring: the stack.
            scratch: a directory for this run alone, readable by the user alone.
        """


def find(client: Client, env: Mapping[str, str]) -> Path:
    """Return a client's executable on this environment's PATH.

    Raises:
        LlmstackError: there is none.
    """
    # A relative entry (`.`, `node_modules/.bin`) would find a program of the repository.
    places = [place for place in env.get("PATH", "").split(os.pathsep) if Path(place).is_absolute()]
    found = shutil.which(client.name, path=os.pathsep.join(places))
    if found is None or not Path(found).is_absolute():
        raise LlmstackError(
            f"{client.name} is not on PATH", hint=f"install it: npm install -g {client.package}"
        )
    return Path(found)


def without_proxy(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep requests to this machine from a proxy; clients send them there too."""
    listed = f"{env.get('NO_PROXY', '')},{env.get('no_proxy', '')}".split(",")
    hosts = ",".join(dict.fromkeys(host for entry in (*listed, *_LOOPBACK) if (host := entry.strip())))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def without_relative(env: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return an environment without those of the variables that name a place in the repository."""
    return {name: value for name, value in env.items() if name not in names or Path(value).is_absolute()}
