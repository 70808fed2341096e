"""The command line as a whole: help, errors, exit codes, pipes, speed."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from support.project import CliProject

from llmstack.cli import COMMANDS


@pytest.fixture
def here(tmp_path: Path) -> CliProject:
    """A directory without a project."""
    project = CliProject(tmp_path / "some where")
    project.directory.mkdir()
    return project


def test_help_lists_every_command(here: CliProject) -> None:
    out = here.run_process("--help").check().out
    listed = [line.split()[0] for line in out.split("Commands:")[1].splitlines() if line.strip()]
    assert listed == list(COMMANDS)
    assert here.run_process("help").check().out == out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(here: CliProject, command: str) -> None:
    out = here.run(command, "--help").check().out
    assert f"Example: llmstack {command}" in out
    assert here.run("help", command).check().out == out


@pytest.mark.parametrize("command", ["start", "stop", "restart", "status", "logs", "load plan", "unload"])
def test_without_a_project_the_error_says_what_to_do(here: CliProject, command: str) -> None:
    result = here.run(*command.split())
    assert result.code == 1
    assert result.err.endswith(
        f"error: no llmstack project in {here.directory} or above\nhint: make one: `llmstack install`\n"
    )


def test_usage_errors_exit_with_two(here: CliProject) -> None:
    assert here.run("strat").code == 2
    assert here.run("status", "--jsn").code == 2
    both = here.run_process("install", "--current", "--next")
    assert (both.code, both.err) == (2, "error: --current and --next exclude each other\n")
    assert here.run("route").code == 2


def test_a_deleted_directory_and_a_wrong_work_dir_are_errors(here: CliProject) -> None:
    gone = here.directory / "gone"
    script = f'mkdir "{gone}" && cd "{gone}" && rmdir "{gone}" && {sys.executable} -m llmstack status'
    ran = subprocess.run(["sh", "-c", script], env=here.env, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (
        1,
        "error: the current directory is gone\nhint: cd to another one\n",
    )
    here.env["LLMSTACK_WORK_DIR"] = "/nonexistent"
    wrong = here.run("status")
    assert wrong.err.startswith("error: LLMSTACK_WORK_DIR: expected a directory, got `/nonexistent`\n")


def test_a_reader_that_leaves_is_no_error(here: CliProject) -> None:
    script = f"{sys.executable} -m llmstack help | head -1"
    ran = subprocess.run(["sh", "-c", script], env=here.env, capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    assert ran.stdout.startswith("Usage:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("command", ["help", "cache --json", "install --print"])
def test_a_full_disk_under_the_output_is_an_error(here: CliProject, command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "llmstack", *command.split()],
            env=here.env,
            cwd=here.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (ran.returncode, ran.stderr) == (1, "error: cannot write the output: No space left on device\n")


def test_route_needs_no_project_and_says_what_it_assumed(here: CliProject) -> None:
    found = here.run_process("route", "[ULTRA] hello", "--json").check()
    assert json.loads(found.out) == {
        "tier": "code-smart",
        "reason": "trigger [ultra]; no ultra tier",
        "conversation_tokens": 3,
        "context_tokens": 3,
    }
    said = here.run("route", "hello").check()
    assert said.out.startswith("code-smart  short: 1 <= 12000 tokens; no ultra tier\n")
    assert "code-smart was taken as available, but Qwen3-Coder-Next-Q4_K_M.gguf is not on disk" in said.err


def test_route_explains_itself(here: CliProject) -> None:
    said = here.run("route", "[ultra] hello", "--explain", "--session", "ses_1").check()
    assert "trigger [ultra]; no ultra tier" in said.out.splitlines()[3]
    assert said.out.splitlines()[-1] == "in its place: code-fast"
    assert "conversation `ses_1`: nothing runs here that could know it; taken as a new one" in said.err
    told = json.loads(here.run("route", "hello", "--explain", "--json").check().out)
    assert (told["others"], told["running"], told["session_known"]) == (["code-fast"], False, False)
    assert [rule["rule"] for rule in told["considered"]] == ["ladder: trigger", "ladder: short", "new"]


def test_route_reads_a_request(here: CliProject) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 4 * 40_000}]}
    (here.directory / "body.json").write_text(json.dumps(body))
    found = json.loads(here.run("route", "--file", "body.json", "--json").check().out)
    assert (found["tier"], found["conversation_tokens"]) == ("code-fast", 40_000)
    (here.directory / "body.json").write_text('{"messages": 5}')
    wrong = here.run("route", "--file", "body.json")
    assert wrong.code == 1
    assert wrong.err.startswith("error: expected the JSON body of a chat completion or completion request: ")


def test_check_works_without_a_project(here: CliProject) -> None:
    checked = here.run_process("check", "--offline", "--json")
    assert checked.code == 1
    found = json.loads(checked.out)
    assert {"tiers", "combinations", "problems"} <= found.keys()
    keys = {"name", "backend", "file", "on_disk", "size_bytes", "drift", "next", "fits"}
    assert all(keys <= tier.keys() for tier in found["tiers"])
    assert [tier["on_disk"] for tier in found["tiers"]] == [False] * 4


@pytest.mark.parametrize("command", ["check --offline", "route hello"])
def test_a_models_ini_that_is_gone_is_not_taken_for_the_default(here: CliProject, command: str) -> None:
    here.run("install", "--profile", "demo").check()
    ini = here.directory / ".llmstack" / "models.ini"
    ini.unlink()
    said = here.run(*command.split())
    assert (said.code, said.out, said.err) == (
        1,
        "",
        f"error: {ini}: no such file\nhint: write one with `llmstack install`\n",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_an_mcp_server_with_nobody_to_talk_to_says_so(here: CliProject, closed: str) -> None:
    script = f"{sys.executable} -m llmstack mcp {closed}"
    ran = subprocess.run(
        ["sh", "-c", script], env=here.env, cwd=here.directory, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (ran.returncode, ran.stderr.splitlines()[0]) == (
        1,
        "error: standard input or output is closed, and an MCP client talks over both",
    )


def test_install_writes_what_it_says_once(here: CliProject) -> None:
    first = here.run_process("install", "--profile", "demo").check()
    files = sorted(path.name for path in (here.directory / ".llmstack").iterdir())
    assert files == [".gitignore", "AGENTS.md", "default-channel", "lock", "models.ini", "opencode.json"]
    assert "next: `llmstack start`" in first.err
    ini = here.directory / ".llmstack" / "models.ini"
    ini.write_text(ini.read_text() + "; mine\n")
    again = here.run("install").check()
    assert f"kept  {ini} (yours)" in again.err
    assert ini.read_text().endswith("; mine\n")
    refused = here.run_process("install", "--profile", "demo")
    assert (refused.code, "is there already" in refused.err) == (1, True)


def test_install_acts_on_the_project_around_unless_told_otherwise(here: CliProject) -> None:
    here.run("install", "--profile", "demo").check()
    inner = CliProject(here.directory / "src")
    inner.directory.mkdir()
    assert f"{here.directory} is installed" in inner.run("install").check().err
    assert not inner.state.exists()
    inner.run("install", "--here", "--profile", "demo").check()
    assert inner.state.is_dir()


def test_install_with_a_wrong_models_ini_writes_nothing(here: CliProject) -> None:
    here.state.mkdir()
    (here.state / "models.ini").write_text("[code-fast]\nctx_size = 64kb\n")
    refused = here.run("install", "--trust")
    assert refused.code == 1
    assert f"{here.state}/models.ini:2: [code-fast] ctx_size: expected a size" in refused.err
    assert sorted(path.name for path in here.state.iterdir()) == ["models.ini"]


def test_install_does_not_trust_what_it_did_not_write(here: CliProject) -> None:
    here.state.mkdir()
    (here.state / "models.ini").write_text("[m]\npath = /m.gguf\nctx_size = 8k\nextra_args = --log-file /x\n")
    refused = here.run("install")
    assert refused.code == 1
    assert "models.ini: [m] extra_args = --log-file /x" in refused.err
    assert "hint: read them, then `llmstack install --trust`" in refused.err


def test_a_full_disk_is_an_error_and_leaves_nothing_half_written(here: CliProject) -> None:
    """Files cannot grow beyond 100 bytes here, as on a disk that is full."""
    ran = subprocess.run(
        [sys.executable, "-m", "llmstack", "install"],
        cwd=here.directory,
        env=here.env,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: cannot write ")
    assert "hint: free some disk space" in ran.stderr
    assert not [path for path in here.state.iterdir() if path.stat().st_size == 100]


def test_version(here: CliProject) -> None:
    assert here.run_process("--version").check().out.startswith("llmstack 0.")


def cpu_seconds(arguments: list[str], env: dict[str, str], cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], env=env, cwd=cwd, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_status_are_fast(here: CliProject) -> None:
    """CPU time of the best of up to twelve rounds: what others do on the machine counts for all alike."""
    here.run("install", "--profile", "demo").check()
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    commands = (["-c", "import typer, rich"], ["-m", "llmstack", "--help"], ["-m", "llmstack", "status"])
    rounds: list[list[float]] = []
    for _ in range(12):
        rounds.append([cpu_seconds(command, env, here.directory) for command in commands])
        baseline, help_, status = map(min, zip(*rounds, strict=True))
        if len(rounds) > 2 and help_ <= 2 * baseline and status <= 5 * baseline:
            return
    pytest.fail(f"--help took {help_:.2f} s of CPU, status {status:.2f} s, typer and rich {baseline:.2f} s")
