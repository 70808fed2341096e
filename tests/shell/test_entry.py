"""What the hook runs when something changed."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminal import make_project

import llmstack.shell.base
from llmstack.paths import UserDirs
from llmstack.shell.environment import activated, deactivated

ENTRY = Path(llmstack.shell.base.__file__).with_name("entry.py")


def answer(directory: Path, *options: str, cwd: Path | None = None, form: str = "nul", **env: str) -> bytes:
    store = UserDirs.from_env({}).trusted_projects
    command = [sys.executable, *options, str(ENTRY), form, str(store), str(directory)]
    return subprocess.run(command, capture_output=True, check=True, cwd=cwd, env=env or None).stdout


def test_it_imports_the_standard_library_alone_and_of_that_nothing_slow(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    store = UserDirs.from_env({}).trusted_projects
    script = (
        f"import runpy, sys; sys.argv[1:] = ['nul', {str(store)!r}, {str(project.work_dir)!r}]\n"
        f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')\n"
        "names = {name.partition('.')[0] for name in sys.modules} - {'__main__', 'llmstack'}\n"
        "slow = {'inspect', 'dataclasses', 'json', 'subprocess'}\n"
        "print(sorted((names - sys.stdlib_module_names) | (names & slow)), file=sys.stderr)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert ran.stdout.startswith("on\0")
    assert ran.stderr == "[]\n"


def test_nothing_of_the_project_is_imported(tmp_path: Path) -> None:
    """Whatever the environment asks for."""
    project = make_project(tmp_path / "cloned", trusted=False)
    for name in ("tomllib.py", "hashlib.py", "sitecustomize.py", "usercustomize.py"):
        (project.work_dir / name).write_text("open('PWNED', 'w')\n")
    env = {"PYTHONPATH": ".", "PYTHONSTARTUP": "sitecustomize.py", "HOME": str(tmp_path)}
    said = answer(project.work_dir, "-I", "-S", cwd=project.work_dir, **env)
    assert said.startswith(b"off\0")
    assert not (project.work_dir / "PWNED").exists()


def test_it_is_quick(tmp_path: Path) -> None:
    """CPU time of the best of five: what others do on the machine does not count."""
    project = make_project(tmp_path / "project")
    answer(project.work_dir, "-I", "-S")  # compiles what is not yet
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer(project.work_dir, "-I", "-S")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.15


def test_a_message_names_the_project_as_prompts_do(tmp_path: Path) -> None:
    project = make_project(tmp_path / "cloned", trusted=False)
    said = answer(project.work_dir, "-I", "-S", HOME=f"{tmp_path}/").split(b"\0")[1].decode()
    assert said == "~/cloned is not trusted; see what it would run: `llmstack trust`"
    elsewhere = answer(project.work_dir, "-I", "-S", HOME=f"{tmp_path}/clon").split(b"\0")[1].decode()
    assert elsewhere.startswith(f"{project.work_dir} is not trusted")


@pytest.mark.parametrize("name", ["a\nb", "ünï", "$(x)`y`\\", "\x1b[2J"])
def test_lines_hold_nothing_that_a_shell_would_read(tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / name)
    said = answer(project.work_dir, "-I", "-S", form="lines").decode("ascii")
    assert said.splitlines()[0] == "on"
    assert not set(said) & set("$`'\"\x1b;&|()")
    decoded = [
        subprocess.run(["bash", "-c", 'printf %b "$1"', "-", line], capture_output=True, check=True).stdout
        for line in said.splitlines()
    ]
    assert str(project.work_dir).encode() in decoded


def test_becoming_active_twice_keeps_what_was_there_at_first() -> None:
    before = {"OPENCODE_CONFIG": "mine", "PATH": "/bin"}
    once = activated(before, {"OPENCODE_CONFIG": "ours", "LLMSTACK_ACTIVE": "1"})
    twice = activated(once, {"OPENCODE_CONFIG": "other", "LLMSTACK_ACTIVE": "1"})
    assert twice["OPENCODE_CONFIG"] == "other"
    assert deactivated(once) == deactivated(twice) == deactivated(before) == before
