"""The shell that `start` ends in on a terminal without the hook."""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pexpect
import pytest
from support.dialects import MARK
from support.project import CliProject
from support.terminal import Terminal, make_project

from llmstack.shell.environment import SAVED_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.engine
LLMSTACK = [sys.executable, "-m", "llmstack"]
AGAIN = " ".join([*LLMSTACK, "start"])


@pytest.fixture
def up(project: CliProject) -> Iterator[CliProject]:
    """A stack that runs, with one tier."""
    project.install(tiers=("code-fast",))
    project.start("--detach")
    yield project
    project.run("stop")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_start_ends_in_a_shell(up: CliProject, shell: str) -> None:
    mine = "set -gx OPENCODE_CONFIG mine" if shell == "fish" else "export OPENCODE_CONFIG=mine"
    env = {"SHELL": str(shutil.which(shell)), "LLMSTACK_REMOTE_URL": "before"}
    started = [*LLMSTACK, "start"]
    with Terminal(shell, up.directory, before=mine, hook=False, argv=started, env=env) as terminal:
        assert terminal.look() == ("[llmstack:project] ", str(up.directory))
        inside = terminal.environment()
        assert inside["LLMSTACK_CHANNEL"] == "current"
        assert inside[f"{SAVED_PREFIX}LLMSTACK_REMOTE_URL"] == "before"
        assert "LLMSTACK_REMOTE_URL" not in inside
        assert "ZDOTDIR" not in inside
        assert "code 3\n" in terminal.run(
            "sh -c 'exit 3'", f"echo code {'$status' if shell == 'fish' else '$?'}"
        )
        terminal.run("cd /")  # no hook: it stays what it is for
        assert terminal.look() == ("[llmstack:project] ", str(up.directory))
        assert "was running already" in terminal.run(AGAIN)  # and no shell in the shell
        terminal.child.sendline("exit")
        terminal.child.expect_exact("left the shell; the stack keeps running")
        terminal.child.expect(pexpect.EOF)
    assert up.said("hello", model="code-fast")


def test_no_shell_where_there_is_a_hook_or_no_terminal(up: CliProject, tmp_path: Path) -> None:
    assert "was running already" in up.run_process("start").check().err  # piped
    with Terminal("bash", tmp_path) as terminal:
        cases = (f"cd {up.directory} && {AGAIN}", f"{AGAIN} --detach", AGAIN)
        for line in cases:  # the first before the hook has seen the project
            shown = terminal.run(line)
            assert "was running already" in shown
            assert "this shell is wired up" not in shown
        terminal.run("llmstack_deactivate")
        terminal.child.sendline(AGAIN)
        terminal.child.expect_exact("this shell is wired up")
        terminal.child.expect_exact(MARK)
        terminal.run("exit")


def test_a_thin_clients_start_ends_in_a_shell_too(up: CliProject, tmp_path: Path) -> None:
    client = CliProject(tmp_path / "client")
    client.directory.mkdir()
    client.run("install", "--external", up.url).check()
    env = {"SHELL": str(shutil.which("bash"))}
    with Terminal("bash", client.directory, hook=False, argv=[*LLMSTACK, "start"], env=env) as terminal:
        assert terminal.look() == (f"[llmstack:client {up.url}] ", str(client.directory))
        assert terminal.environment()["LLMSTACK_REMOTE_URL"] == up.url


def test_a_shell_that_cannot_be_wired_up_is_named(up: CliProject) -> None:
    for shell, said in (("/bin/dash", "got `/bin/dash`"), ("cmd.exe", "cmd.exe has no activation")):
        child = pexpect.spawn(
            LLMSTACK[0],
            [*LLMSTACK[1:], "start"],
            cwd=str(up.directory),
            env={**os.environ, "LLMSTACK_SHELL": shell},
            encoding="utf-8",
            dimensions=(50, 200),
            timeout=20,
        )
        child.expect_exact("no shell was opened")
        child.expect_exact(said)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


def test_a_command_follows_the_directory_where_the_hook_is_a_prompt_behind(tmp_path: Path) -> None:
    """Within one line of bash: the hook runs at the next prompt."""
    first, second = (make_project(tmp_path / name) for name in ("first", "second"))
    command = f"cd {second.work_dir} && {' '.join(LLMSTACK)} trust --revoke"
    with Terminal("bash", first.work_dir) as terminal:
        assert terminal.active() == str(first.work_dir)
        assert f"{second.work_dir} is no longer trusted" in terminal.run(command)
