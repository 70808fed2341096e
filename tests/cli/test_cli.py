"""The command line: help, errors, exit codes, pipes, speed."""

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
    """Return a directory without a project."""
    project = CliProject(tmp_path / "with space")
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
def test_the_error_without_a_project_says_how_to_create_one(here: CliProject, command: str) -> None:
    result = here.run(*command.split())
    assert result.code == 1
    assert result.err.endswith(
        f"error: no llmstack project in {here.directory} or above\nhint: create one with `llmstack install`\n"
    )


def test_usage_errors_exit_with_2(here: CliProject) -> None:
    assert here.run("strat").code == 2
    assert here.run("status", "--jsn").code == 2
    exclusive = here.run_process("install", "--current", "--next")
    assert (exclusive.code, exclusive.err) == (2, "error: --current and --next exclude each other\n")
    assert here.run("route").code == 2


def test_a_deleted_directory_and_an_invalid_work_dir_are_errors(here: CliProject) -> None:
    deleted = here.directory / "deleted"
    script = (
        f'mkdir "{deleted}" && cd "{deleted}" && rmdir "{deleted}" && {sys.executable} -m llmstack status'
    )
    process = subprocess.run(["sh", "-c", script], env=here.env, capture_output=True, text=True, check=False)
    assert (process.returncode, process.stderr) == (
        1,
        "error: the current directory no longer exists\nhint: cd to another one\n",
    )
    here.env["LLMSTACK_WORK_DIR"] = "/nonexistent"
    invalid = here.run("status")
    assert invalid.err.startswith("error: LLMSTACK_WORK_DIR: expected a directory, got `/nonexistent`\n")


def test_a_closed_pipe_is_not_an_error(here: CliProject) -> None:
    script = f"{sys.executable} -m llmstack help | head -1"
    process = subprocess.run(["sh", "-c", script], env=here.env, capture_output=True, text=True, check=False)
    assert process.stderr == ""
    assert process.stdout.startswith("Usage:")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("command", ["help", "cache --json", "install --print"])
def test_output_to_a_full_disk_is_an_error(here: CliProject, command: str) -> None:
    with Path("/dev/full").open("wb") as full:
        process = subprocess.run(
            [sys.executable, "-m", "llmstack", *command.split()],
            env=here.env,
            cwd=here.directory,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (process.returncode, process.stderr) == (
        1,
        "error: cannot write the output: No space left on device\n",
    )


def test_route_works_without_a_project_and_shows_its_assumptions(here: CliProject) -> None:
    as_json = here.run_process("route", "[ULTRA] hello", "--json").check()
    assert json.loads(as_json.out) == {
        "tier": "code-smart",
        "reason": "trigger [ultra]; no ultra tier",
        "conversation_tokens": 3,
        "context_tokens": 3,
    }
    result = here.run("route", "hello").check()
    assert result.out.startswith("code-smart  short: 1 <= 12000 tokens; no ultra tier\n")
    assert (
        "code-smart is assumed to be available, but Qwen3-Coder-Next-Q4_K_M.gguf is not on disk" in result.err
    )


def test_route_explain_shows_every_rule(here: CliProject) -> None:
    result = here.run("route", "[ultra] hello", "--explain", "--session", "ses_1").check()
    assert "trigger [ultra]; no ultra tier" in result.out.splitlines()[3]
    assert result.out.splitlines()[-1] == "alternatives: code-fast"
    assert "conversation `ses_1` is treated as a new one: the stack is not running" in result.err
    explained = json.loads(here.run("route", "hello", "--explain", "--json").check().out)
    assert (explained["others"], explained["running"], explained["session_known"]) == (
        ["code-fast"],
        False,
        False,
    )
    assert [rule["rule"] for rule in explained["considered"]] == ["ladder: trigger", "ladder: short", "new"]


def test_route_reads_the_body_of_a_request(here: CliProject) -> None:
    body = {"model": "auto", "messages": [{"role": "user", "content": "x" * 4 * 40_000}]}
    (here.directory / "body.json").write_text(json.dumps(body))
    decision = json.loads(here.run("route", "--file", "body.json", "--json").check().out)
    assert (decision["tier"], decision["conversation_tokens"]) == ("code-fast", 40_000)
    (here.directory / "body.json").write_text('{"messages": 5}')
    malformed = here.run("route", "--file", "body.json")
    assert malformed.code == 1
    assert malformed.err.startswith(
        "error: expected the JSON body of a chat completion or completion request: "
    )


def test_check_works_without_a_project(here: CliProject) -> None:
    result = here.run_process("check", "--offline", "--json")
    assert result.code == 1
    report = json.loads(result.out)
    assert {"tiers", "combinations", "problems"} <= report.keys()
    keys = {"name", "backend", "file", "on_disk", "size_bytes", "drift", "next", "fits"}
    assert all(keys <= tier.keys() for tier in report["tiers"])
    assert [tier["on_disk"] for tier in report["tiers"]] == [False] * 4


@pytest.mark.parametrize("command", ["check --offline", "route hello"])
def test_a_missing_models_ini_is_an_error_and_not_the_default_profile(here: CliProject, command: str) -> None:
    here.run("install", "--profile", "demo").check()
    ini = here.directory / ".llmstack" / "models.ini"
    ini.unlink()
    result = here.run(*command.split())
    assert (result.code, result.out, result.err) == (
        1,
        "",
        f"error: {ini}: no such file\nhint: write one with `llmstack install`\n",
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_an_mcp_server_needs_open_standard_streams(here: CliProject, closed: str) -> None:
    script = f"{sys.executable} -m llmstack mcp {closed}"
    process = subprocess.run(
        ["sh", "-c", script], env=here.env, cwd=here.directory, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (process.returncode, process.stderr.splitlines()[0]) == (
        1,
        "error: standard input or output is closed, and an MCP client talks over both",
    )


def test_install_lists_the_files_it_writes_and_keeps_models_ini(here: CliProject) -> None:
    first = here.run_process("install", "--profile", "demo").check()
    files = sorted(path.name for path in (here.directory / ".llmstack").iterdir())
    assert files == [".gitignore", "AGENTS.md", "default-channel", "lock", "models.ini", "opencode.json"]
    assert "next: `llmstack start`" in first.err
    ini = here.directory / ".llmstack" / "models.ini"
    ini.write_text(ini.read_text() + "; mine\n")
    second = here.run("install").check()
    assert f"kept  {ini} (yours)" in second.err
    assert ini.read_text().endswith("; mine\n")
    failure = here.run_process("install", "--profile", "demo")
    assert (failure.code, "exists already" in failure.err) == (1, True)


def test_install_uses_the_surrounding_project_unless_here_is_given(here: CliProject) -> None:
    here.run("install", "--profile", "demo").check()
    inner = CliProject(here.directory / "src")
    inner.directory.mkdir()
    assert f"{here.directory} is set up" in inner.run("install").check().err
    assert not inner.state.exists()
    inner.run("install", "--here", "--profile", "demo").check()
    assert inner.state.is_dir()


def test_install_with_an_invalid_models_ini_writes_nothing(here: CliProject) -> None:
    here.state.mkdir()
    (here.state / "models.ini").write_text("[code-fast]\nctx_size = 64kb\n")
    failure = here.run("install", "--trust")
    assert failure.code == 1
    assert f"{here.state}/models.ini:2: [code-fast] ctx_size: expected a size" in failure.err
    assert sorted(path.name for path in here.state.iterdir()) == ["models.ini"]


def test_install_does_not_trust_files_that_it_did_not_write(here: CliProject) -> None:
    here.state.mkdir()
    (here.state / "models.ini").write_text("[m]\npath = /m.gguf\nctx_size = 8k\nextra_args = --log-file /x\n")
    failure = here.run("install")
    assert failure.code == 1
    assert "models.ini: [m] extra_args = --log-file /x" in failure.err
    assert "hint: read them, then `llmstack install --trust`" in failure.err


def test_a_full_disk_is_an_error_and_leaves_no_partial_file(here: CliProject) -> None:
    """A limit of 100 bytes per file stands for the full disk."""
    process = subprocess.run(
        [sys.executable, "-m", "llmstack", "install"],
        cwd=here.directory,
        env=here.env,
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
    )
    assert process.returncode == 1
    assert process.stderr.startswith("error: cannot write ")
    assert "hint: free some disk space" in process.stderr
    assert not [path for path in here.state.iterdir() if path.stat().st_size == 100]


def test_version_is_printed(here: CliProject) -> None:
    assert here.run_process("--version").check().out.startswith("llmstack 0.")


def cpu_seconds(args: list[str], env: dict[str, str], cwd: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *args], env=env, cwd=cwd, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_and_status_start_fast(here: CliProject) -> None:
    """The least CPU time of up to twelve rounds, relative to the imports that cannot be avoided."""
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
