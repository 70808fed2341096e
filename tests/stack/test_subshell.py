"""The shell that `llmstack start` opens on a terminal whose shell has no hook."""

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
def running(project: CliProject) -> Iterator[CliProject]:
    """A running stack with one tier."""
    project.install(tiers=("code-fast",))
    project.start("--detach")
    yield project
    project.run("stop")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_start_opens_an_activated_shell(running: CliProject, shell: str) -> None:
    setup = "set -gx OPENCODE_CONFIG mine" if shell == "fish" else "export OPENCODE_CONFIG=mine"
    env = {"SHELL": str(shutil.which(shell)), "LLMSTACK_REMOTE_URL": "before"}
    started = [*LLMSTACK, "start"]
    with Terminal(shell, running.directory, before=setup, hook=False, argv=started, env=env) as terminal:
        assert terminal.look() == ("[llmstack:project] ", str(running.directory))
        inside = terminal.environment()
        assert inside["LLMSTACK_CHANNEL"] == "current"
        assert inside[f"{SAVED_PREFIX}LLMSTACK_REMOTE_URL"] == "before"
        assert "LLMSTACK_REMOTE_URL" not in inside
        assert "ZDOTDIR" not in inside
        assert "code 3\n" in terminal.run(
            "sh -c 'exit 3'", f"echo code {'$status' if shell == 'fish' else '$?'}"
        )
        terminal.run("cd /")  # without a hook, it stays active
        assert terminal.look() == ("[llmstack:project] ", str(running.directory))
        assert "was running already" in terminal.run(AGAIN)  # and opens no nested shell
        terminal.child.sendline("exit")
        terminal.child.expect_exact("left the shell; the stack keeps running")
        terminal.child.expect(pexpect.EOF)
    assert running.answer("hello", model="code-fast")


def test_start_opens_no_shell_with_a_hook_or_without_a_terminal(running: CliProject, tmp_path: Path) -> None:
    assert "was running already" in running.run_process("start").check().err  # piped
    with Terminal("bash", tmp_path) as terminal:
        cases = (f"cd {running.directory} && {AGAIN}", f"{AGAIN} --detach", AGAIN)
        for line in cases:  # the first runs before the hook does
            shown = terminal.run(line)
            assert "was running already" in shown
            assert "this shell is wired up" not in shown
        terminal.run("llmstack_deactivate")
        terminal.child.sendline(AGAIN)
        terminal.child.expect_exact("this shell is wired up")
        terminal.child.expect_exact(MARK)
        terminal.run("exit")


def test_start_opens_a_shell_in_a_thin_client(running: CliProject, tmp_path: Path) -> None:
    client = CliProject(tmp_path / "client")
    client.directory.mkdir()
    client.run("install", "--external", running.url).check()
    env = {"SHELL": str(shutil.which("bash"))}
    with Terminal("bash", client.directory, hook=False, argv=[*LLMSTACK, "start"], env=env) as terminal:
        assert terminal.look() == (f"[llmstack:client {running.url}] ", str(client.directory))
        assert terminal.environment()["LLMSTACK_REMOTE_URL"] == running.url


def test_start_names_a_shell_that_is_not_supported(running: CliProject) -> None:
    for shell, message in (("/bin/dash", "got `/bin/dash`"), ("cmd.exe", "cmd.exe has no activation")):
        child = pexpect.spawn(
            LLMSTACK[0],
            [*LLMSTACK[1:], "start"],
            cwd=str(running.directory),
            env={**os.environ, "LLMSTACK_SHELL": shell},
            encoding="utf-8",
            dimensions=(50, 200),
            timeout=20,
        )
        child.expect_exact("no shell was opened")
        child.expect_exact(message)
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0


def test_a_command_uses_the_new_directory_before_the_hook_has_run(tmp_path: Path) -> None:
    """Both are in one line of bash, and the hook runs at the next prompt."""
    first, second = (make_project(tmp_path / name) for name in ("first", "second"))
    command = f"cd {second.work_dir} && {' '.join(LLMSTACK)} trust --revoke"
    with Terminal("bash", first.work_dir) as terminal:
        assert terminal.active() == str(first.work_dir)
        assert f"{second.work_dir} is no longer trusted" in terminal.run(command)
