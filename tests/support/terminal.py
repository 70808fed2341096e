"""A real interactive shell in a pseudo-terminal."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pexpect
from pexpect.popen_spawn import PopenSpawn
from support.dialects import DIALECTS, MARK, POWERSHELL
from support.trusting import trust as grant

from llmstack.paths import Project, UserDirs
from llmstack.shell.base import HookValues
from llmstack.shell.hook_file import write_hook
from llmstack.shell.shells import SHELLS
from llmstack.trust.fingerprint import STATE_DIR

if TYPE_CHECKING:
    from collections.abc import Mapping

# An escape sequence, or a control character other than a newline.
_CONTROL = re.compile(
    r"\x1b(?:\[[0-9;?>=]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78])|[\r\x00\x07\x0e\x0f]"
)
_FISH_NO_NEWLINE = re.compile("\u23ce +(?:\u23ce )?")


def hook_line(shell: str) -> str:
    """Write the hook of this shell for the tests' user, and return the line that loads it."""
    trust_file = UserDirs.from_env({}).trusted_projects
    return write_hook(SHELLS[shell], Path.home(), HookValues(Path(sys.executable), trust_file)).source_line


def make_project(directory: Path, *, channel: str = "current", trusted: bool = True) -> Project:
    """Create the files that the hook reads, as `install` does, but no models.ini."""
    project = Project.at(directory, {})
    project.state.mkdir(parents=True, exist_ok=True)
    project.opencode_json.write_text("{}\n")
    project.default_channel.write_text(f"{channel}\n")
    if trusted:
        trust(project)
    return project


def trust(project: Project) -> None:
    """Trust a project, as `llmstack trust` does."""
    grant(project, UserDirs.from_env({}).trusted_projects)


def prompts(output: str) -> list[str]:
    """Return the prompts in the output, up to their marks."""
    return [line.rpartition(MARK)[0] for line in output.splitlines() if MARK in line]


def messages(output: str) -> list[str]:
    """Return the messages of the hook in the output."""
    return [line for line in output.splitlines() if line.startswith("llmstack: ")]


@dataclass
class Terminal:
    """An interactive shell with the hook, and a prompt that ends in `@@`.

    PowerShell uses pipes instead of a pseudo-terminal: it prints its prompts there too, behaves the same on
    every system, and does not ask for the cursor's position.

    Attributes:
        cwd: the directory in which it starts.
        before: lines of the rc file before the hook.
        after: lines of the rc file after the hook.
        hook: whether the rc file loads the hook.
        argv: the command line; empty for the shell itself.
    """

    shell: str
    cwd: Path
    before: str = ""
    after: str = ""
    hook: bool = True
    env: Mapping[str, str] = field(default_factory=dict)
    argv: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.dialect = DIALECTS[self.shell]
        rc = Path.home() / self.dialect.rc
        rc.parent.mkdir(parents=True, exist_ok=True)
        # If this directory is missing, fish first reads every man page in the background.
        (Path.home() / "data" / "fish" / "generated_completions").mkdir(parents=True, exist_ok=True)
        hook = hook_line(self.shell) if self.hook else ""
        rc.write_text(f"{self.dialect.prompt}\n{self.before}\n{hook}\n{self.after}\n")
        argv = self.argv or [self.dialect.program, *self.dialect.options]
        env = {name: value for name, value in os.environ.items() if name not in {"PS1", "PROMPT_COMMAND"}}
        env |= {"TERM": "xterm-256color", "SHELL": shutil.which(argv[0]) or "", **self.env}
        self.child = self._spawn(argv, env)
        self.child.delaybeforesend = None
        self.count = 0
        self.child.expect_exact(MARK)
        self.run("true")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if isinstance(self.child, PopenSpawn):
            self.child.sendeof()
            self.child.wait()
            self.child.proc.stdout.close()
        else:
            self.child.close(force=True)

    def _spawn(self, argv: list[str], env: Mapping[str, str]) -> Any:
        read: Any = {"encoding": "utf-8", "codec_errors": "backslashreplace", "timeout": 10}
        if self.dialect is POWERSHELL:
            quiet = {"POWERSHELL_TELEMETRY_OPTOUT": "1", "POWERSHELL_UPDATECHECK": "Off"}
            read["timeout"] = 30  # it starts slowly
            return PopenSpawn(argv, cwd=str(self.cwd), env={**env, **quiet}, **read)
        return pexpect.spawn(argv[0], argv[1:], cwd=str(self.cwd), env=env, dimensions=(50, 1000), **read)

    def run(self, *lines: str) -> str:
        """Run lines, and return the output up to the next prompt, without escape sequences."""
        self.count += 1
        output = ""
        for line in lines:
            self.child.sendline(line)
            if isinstance(self.child, PopenSpawn):  # if the shell exits, the next line would be lost
                self.child.expect_exact(MARK)
                output += f"{self.child.before}{MARK}"
        self.child.sendline(self.dialect.end.format(self.count))
        self.child.expect_exact(f"END{self.count}.")
        output += self.child.before
        if isinstance(self.child, PopenSpawn):
            self.child.expect_exact(MARK)
        return _FISH_NO_NEWLINE.sub("", _CONTROL.sub("", output))

    def prompt(self) -> str:
        """Return the current prompt, up to its mark."""
        return self.look()[0]

    def active(self) -> str | None:
        """Return the work dir of the active project after another prompt, None if there is none."""
        return self.look()[1]

    def environment(self) -> dict[str, str]:
        """Return the exported variables after another prompt."""
        self.run("true", self.dialect.probe.format(self._env_file))
        return self._read_env_file()

    def _read_env_file(self) -> dict[str, str]:
        pairs = os.fsdecode(self._env_file.read_bytes()).split("\0")
        return dict(pair.split("=", 1) for pair in pairs if pair)

    @property
    def _env_file(self) -> Path:
        return Path.home() / "environment"

    def look(self, *lines: str) -> tuple[str, str | None]:
        """Run lines; return the prompt up to its mark, and the work dir of the active project."""
        output = self.run(*lines, "true", self.dialect.probe.format(self._env_file))
        env = self._read_env_file()
        assert ("LLMSTACK_ACTIVE" in env) == ("LLMSTACK_WORK_DIR" in env)
        if "LLMSTACK_ACTIVE" in env:
            assert env["OPENCODE_CONFIG"] == str(Path(env["LLMSTACK_WORK_DIR"], STATE_DIR, "opencode.json"))
        return prompts(output)[-1], env.get("LLMSTACK_WORK_DIR")
