"""The program that the shell hook runs when something changed."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.terminal import make_project

import llmstack.shell.base
from llmstack.paths import UserDirs
from llmstack.shell.environment import activate_env, deactivate_env

ENTRY = Path(llmstack.shell.base.__file__).with_name("entry.py")


def run_entry(directory: Path, *, cwd: Path | None = None, output_format: str = "nul", **env: str) -> bytes:
    """Run the program as the hook does, and return its output."""
    trust_file = UserDirs.from_env({}).trusted_projects
    command = [sys.executable, "-I", "-S", str(ENTRY), output_format, str(trust_file), str(directory)]
    return subprocess.run(command, capture_output=True, check=True, cwd=cwd, env=env or None).stdout


def test_it_imports_only_the_standard_library_and_no_slow_modules(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    trust_file = UserDirs.from_env({}).trusted_projects
    script = (
        f"import runpy, sys; sys.argv[1:] = ['nul', {str(trust_file)!r}, {str(project.work_dir)!r}]\n"
        f"runpy.run_path({str(ENTRY)!r}, run_name='__main__')\n"
        "names = {name.partition('.')[0] for name in sys.modules} - {'__main__', 'llmstack'}\n"
        "slow = {'inspect', 'dataclasses', 'json', 'subprocess'}\n"
        "print(sorted((names - sys.stdlib_module_names) | (names & slow)), file=sys.stderr)\n"
    )
    process = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("on\0")
    assert process.stderr == "[]\n"


def test_it_imports_nothing_from_the_project(tmp_path: Path) -> None:
    """Not even if the environment says so."""
    project = make_project(tmp_path / "cloned", trusted=False)
    for name in ("tomllib.py", "hashlib.py", "sitecustomize.py", "usercustomize.py"):
        (project.work_dir / name).write_text("open('PWNED', 'w')\n")
    env = {"PYTHONPATH": ".", "PYTHONSTARTUP": "sitecustomize.py", "HOME": str(tmp_path)}
    output = run_entry(project.work_dir, cwd=project.work_dir, **env)
    assert output.startswith(b"off\0")
    assert not (project.work_dir / "PWNED").exists()


def test_it_takes_less_than_150_ms(tmp_path: Path) -> None:
    """The least CPU time of five runs, so that other load on the machine does not matter."""
    project = make_project(tmp_path / "project")
    run_entry(project.work_dir)  # compiles the modules
    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_entry(project.work_dir)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(spent) < 0.15


def test_a_message_abbreviates_the_home_directory(tmp_path: Path) -> None:
    project = make_project(tmp_path / "cloned", trusted=False)
    message = run_entry(project.work_dir, HOME=f"{tmp_path}/").split(b"\0")[1].decode()
    assert message == "~/cloned is not trusted; see what it would run: `llmstack trust`"
    other_home = run_entry(project.work_dir, HOME=f"{tmp_path}/clon").split(b"\0")[1].decode()
    assert other_home.startswith(f"{project.work_dir} is not trusted")


@pytest.mark.parametrize("name", ["a\nb", "ünï", "$(x)`y`\\", "\x1b[2J"])
def test_lines_contain_nothing_that_a_shell_would_expand(tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / name)
    output = run_entry(project.work_dir, output_format="lines").decode("ascii")
    assert output.splitlines()[0] == "on"
    assert not set(output) & set("$`'\"\x1b;&|()")
    decoded = [
        subprocess.run(["bash", "-c", 'printf %b "$1"', "-", line], capture_output=True, check=True).stdout
        for line in output.splitlines()
    ]
    assert str(project.work_dir).encode() in decoded


def test_a_second_activation_keeps_the_original_values() -> None:
    before = {"OPENCODE_CONFIG": "mine", "PATH": "/bin"}
    once = activate_env(before, {"OPENCODE_CONFIG": "ours", "LLMSTACK_ACTIVE": "1"})
    twice = activate_env(once, {"OPENCODE_CONFIG": "other", "LLMSTACK_ACTIVE": "1"})
    assert twice["OPENCODE_CONFIG"] == "other"
    assert deactivate_env(once) == deactivate_env(twice) == deactivate_env(before) == before
