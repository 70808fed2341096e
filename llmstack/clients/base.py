"""How a coding agent is started so that it uses this stack: what it is told, and what each client needs."""

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
class StackAccess:
    """Everything a client needs to know to reach the stack.

    Attributes:
        url: the router's URL, without `/v1`.
        key: the router's API key; None if it requires none.
        key_env: the environment variable that holds the key.
        context: context window of `auto`, in tokens.
        output: the most tokens to request in one answer.
        fast: name of the model for small chores; `auto` if the stack has none.
        agent: name of the agent model; `auto` if the stack has none.
        ultra: name of the strongest model; `auto` if the stack has none.
        work_dir: the project's directory.
        cwd: the directory the client runs in.
        env: environment of the `run` command.
        opencode_json: text of the project's opencode.json.
        opencode_path: path of that file.
        trusts_repository: whether the client may run plugins, hooks and MCP servers of the repository.
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
    trusts_repository: bool = False


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a client.

    Attributes:
        arguments: arguments to put before the user's own.
        env: the whole environment of the client.
    """

    arguments: tuple[str, ...]
    env: dict[str, str]


class Client(Protocol):
    """A coding agent that `llmstack run` can start."""

    @property
    def name(self) -> str:
        """Name of the program, and of the client in `llmstack run NAME`."""

    @property
    def package(self) -> str:
        """Name of its npm package."""

    def check_repository(self, cwd: Path, home: Path) -> None:
        """Check that the client will not run code of the repository.

        Raises:
            LlmstackError: it would, and no option prevents it; the message names the files.
        """

    def launch(self, access: StackAccess, scratch: Path) -> Launch:
        """Return how to start the client so that it uses this stack only.

        Args:
            access: how to reach the stack.
            scratch: an empty directory for this run, readable by the user alone.
        """


def find_executable(client: Client, env: Mapping[str, str]) -> Path:
    """Return the path of a client's executable, searched on the PATH of `env`.

    Raises:
        LlmstackError: the client is not on PATH.
    """
    # A relative entry (`.`, `node_modules/.bin`) would find a program of the repository.
    directories = [entry for entry in env.get("PATH", "").split(os.pathsep) if Path(entry).is_absolute()]
    executable = shutil.which(client.name, path=os.pathsep.join(directories))
    if executable is None or not Path(executable).is_absolute():
        raise LlmstackError(
            f"{client.name} is not on PATH", hint=f"install it: npm install -g {client.package}"
        )
    return Path(executable)


def no_proxy_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Return `NO_PROXY` and `no_proxy` of `env` with this machine's loopback names added.

    Without them clients would send requests for the local router to a configured proxy.
    """
    entries = f"{env.get('NO_PROXY', '')},{env.get('no_proxy', '')}".split(",")
    hosts = ",".join(dict.fromkeys(host for entry in (*entries, *_LOOPBACK) if (host := entry.strip())))
    return {"NO_PROXY": hosts, "no_proxy": hosts}


def without_relative_paths(env: Mapping[str, str], *names: str) -> dict[str, str]:
    """Return `env` without those of the named variables that hold a relative path.

    A relative path would name files of the repository that the client runs in.
    """
    return {name: value for name, value in env.items() if name not in names or Path(value).is_absolute()}
