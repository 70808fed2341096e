"""Entering and leaving projects in real interactive shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from support.dialects import DIALECTS, HERE, MARK, UNIX
from support.terminal import Terminal, hook_line, make_project, messages, prompts, trust
from support.waiting import wait_until

from llmstack.channel import CURRENT, NEXT, external, write_marker
from llmstack.paths import UserDirs
from llmstack.shell.environment import EXPORTED_NAMES, SAVED_PREFIX
from llmstack.trust.store import revoke

PIPE_STATUS = {"bash": '"${PIPESTATUS[@]}"', "zsh": "$pipestatus", "fish": "$pipestatus"}
HOSTILE = (
    "with space",
    "it's",
    'say "hi"',
    "$(touch PWNED)",
    "`touch PWNED`",
    "; touch PWNED",
    "${PWD:?}",
    "line\nbreak",
    "ends in newline\n",
    "%F{red}%n",
    "\\[\\e[31m\\]\\u\\$(touch PWNED)",
    "back\\slash\\",
    "ünï-日本",
    "-dash",
    "~",
    "*",
    "!!",
    "a=b&c|d>PWNED<e#f",
    "\x1b[31mred",
    "(set -g X 1)",
    "@PYTHON@",
)


@pytest.fixture(params=HERE)
def shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(DIALECTS[request.param].program) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


@pytest.fixture(params=UNIX)
def unix_shell(request: pytest.FixtureRequest) -> str:
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return str(request.param)


def hook_variables(env: dict[str, str]) -> dict[str, str]:
    """Return the variables that the hook exports or saves."""
    return {
        name: value for name, value in env.items() if name in EXPORTED_NAMES or name.startswith(SAVED_PREFIX)
    }


def test_every_way_to_enter_and_leave_a_project(shell: str, tmp_path: Path) -> None:
    outer, inner, other = (tmp_path / name for name in ("outer", "outer/deep/inner", "other"))
    for directory in (outer, inner, other):
        make_project(directory)
    (inner / "sub").mkdir()
    with Terminal(shell, tmp_path) as terminal:
        assert terminal.look() == ("", None)
        steps = [
            ("cd outer", outer),
            ("cd deep", outer),
            ("cd inner/sub", inner),
            ("cd ../..", outer),
            (f"pushd {other}", other),
            ("popd", outer),
            ("cd ../../other", other),
            ("cd /", None),
            ("cd -", other),
        ]
        for line, expected in steps:
            look = (f"[llmstack:{expected.name}] ", str(expected)) if expected else ("", None)
            assert terminal.look(line) == look, line


@pytest.mark.skipif(sys.platform == "win32", reason="a directory in use cannot be deleted")
def test_deleting_the_project_deactivates_the_terminal(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "outer")
    inner = make_project(tmp_path / "outer" / "inner")
    with Terminal(shell, inner.work_dir) as terminal:
        assert terminal.active() == str(inner.work_dir)
        shutil.rmtree(inner.state)
        assert terminal.active() == str(tmp_path / "outer")
        shutil.rmtree(tmp_path / "outer")
        assert terminal.look() == ("", None)
        assert "still" in terminal.run("echo 'still 'here")
        terminal.run(f"cd {tmp_path}")
        assert terminal.active() is None


@pytest.mark.parametrize("before", ["unset", "empty", "set"])
def test_leaving_restores_every_variable(shell: str, tmp_path: Path, before: str) -> None:
    make_project(tmp_path / "project", channel="external http://127.0.0.1:1")
    previous = (
        {}
        if before == "unset"
        else {name: "" if before == "empty" else f"mine: {name} $x '" for name in EXPORTED_NAMES}
    )
    previous.pop("LLMSTACK_ACTIVE", None)  # would mean that the terminal is active already
    if (shell, before) == ("powershell", "empty"):
        previous = {}  # before 7.5, PowerShell removes empty variables
    with Terminal(shell, tmp_path, env=previous) as terminal:
        terminal.run("cd project")
        env = terminal.environment()
        assert env["LLMSTACK_REMOTE_URL"] == "http://127.0.0.1:1"
        assert env["LLMSTACK_CHANNEL"] == "external"
        assert (Path(env["LLMSTACK_ROOT"]) / "shell").is_dir()
        terminal.run("cd ..")
        assert hook_variables(terminal.environment()) == previous


def test_leaving_does_not_export_what_was_not_exported_before(unix_shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    assignment = "set -g OPENCODE_CONFIG mine" if unix_shell == "fish" else "OPENCODE_CONFIG=mine"
    with Terminal(unix_shell, tmp_path, after=assignment) as terminal:
        terminal.run("cd project")
        assert terminal.environment()["OPENCODE_CONFIG"].startswith(str(tmp_path))
        terminal.run("cd ..")
        assert hook_variables(terminal.environment()) == {}
        assert "still mine\n" in terminal.run('echo "still $OPENCODE_CONFIG"')
        terminal.run("cd project")
        terminal.child.sendline(terminal.dialect.child)
        terminal.child.expect_exact(MARK)
        terminal.run("cd ..")
        # The child shell looks like one of a terminal that was never in the project.
        assert hook_variables(terminal.environment()) == {}


def test_a_child_shell_shows_the_prefix_and_restores_the_variables(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path, env={"OPENCODE_CONFIG": "mine"}) as terminal:
        terminal.run("cd project")
        terminal.child.sendline(terminal.dialect.child)
        terminal.child.expect_exact(MARK)
        assert terminal.prompt() == "[llmstack:project] "
        terminal.run("cd ..")
        assert terminal.prompt() == ""
        assert hook_variables(terminal.environment()) == {"OPENCODE_CONFIG": "mine"}
        terminal.run("exit")
        assert terminal.prompt() == "[llmstack:project] "
        terminal.run("cd ..")
        assert terminal.prompt() == ""
        assert hook_variables(terminal.environment()) == {"OPENCODE_CONFIG": "mine"}


def test_a_new_channel_takes_effect_at_the_next_prompt(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with Terminal(shell, project.work_dir) as terminal:
        assert terminal.prompt() == "[llmstack:project] "
        write_marker(project.active_channel, NEXT)
        assert terminal.prompt() == "[llmstack:project next] "
        assert terminal.environment()["LLMSTACK_CHANNEL"] == "next"
        project.active_channel.unlink()
        assert terminal.prompt() == "[llmstack:project] "
        write_marker(project.default_channel, external("http://127.0.0.1:10101"))
        trust(project)
        assert terminal.prompt() == "[llmstack:project http://127.0.0.1:10101] "
        assert terminal.environment()["LLMSTACK_REMOTE_URL"] == "http://127.0.0.1:10101"
        write_marker(project.default_channel, CURRENT)
        trust(project)
        assert "LLMSTACK_REMOTE_URL" not in terminal.environment()


def test_the_prefix_adds_no_line_to_the_prompt(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path) as terminal:
        terminal.run("cd project")
        output = terminal.run("true", "true")
        assert "[llmstack:project] " in output
        assert "\n\n" not in output


def test_the_prefix_has_the_colour_of_the_channel(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with Terminal(shell, project.work_dir) as terminal:
        for marker, color in (("current", 67), ("next", 208)):
            project.active_channel.write_text(f"{marker}\n")
            terminal.child.sendline("true")
            terminal.child.expect(rf"\x1b\[38;5;{color}m\[llmstack:project[^\]]*\]")
            terminal.run("true")


def test_only_a_trusted_project_activates_the_terminal(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "cloned", trusted=False)
    (project.work_dir / "sub").mkdir()
    with Terminal(shell, tmp_path) as terminal:
        output = terminal.run("cd cloned", "cd sub", "true", "cd ..")
        warning = f"llmstack: {project.work_dir} is not trusted; see what it would run: `llmstack trust`"
        assert messages(output) == [warning]
        assert terminal.look() == ("", None)
        make_project(tmp_path / "elsewhere")  # trusting another project prints no message here
        assert messages(terminal.run("true")) == []
        assert messages(terminal.run("cd ..", "cd cloned")) == [warning]  # once per entry

        trust(project)
        assert terminal.active() == str(project.work_dir)
        project.opencode_json.write_text(
            '{"mcp": {"evil": {"type": "local", "command": ["touch", "PWNED"]}}}'
        )
        changed = terminal.run("true", "true")
        assert len(messages(changed)) == 1
        assert "is off, opencode.json changed since it was trusted" in messages(changed)[0]
        assert terminal.look() == ("", None)
        trust(project)
        assert terminal.active() == str(project.work_dir)
        revoke(project.work_dir, UserDirs.from_env({}).trusted_projects)
        assert messages(terminal.run("true")) == [warning]
        assert terminal.active() is None


def test_an_installed_project_is_active_at_the_next_prompt(shell: str, tmp_path: Path) -> None:
    directory = tmp_path / "new"
    directory.mkdir()
    with Terminal(shell, directory) as terminal:
        assert terminal.active() is None
        make_project(directory)
        assert terminal.active() == str(directory)


@pytest.mark.parametrize(
    "marker",
    [
        "external http://x/$(touch PWNED)",
        "next; touch PWNED",
        "`touch PWNED`",
        "\x1b]0;evil\x07",
        "",
        "x" * 10**6,
    ],
)
def test_a_hostile_marker_runs_nothing(shell: str, tmp_path: Path, marker: str) -> None:
    project = make_project(tmp_path / "cloned", channel=marker, trusted=False)
    project.active_channel.write_text(marker)
    with Terminal(shell, tmp_path) as terminal:
        assert len(messages(terminal.run("cd cloned", "true"))) == 1
        assert terminal.active() is None
        trust(project)  # the user trusts it anyway
        terminal.run("true")
        assert MARK in terminal.run("true")
        assert terminal.environment().get("LLMSTACK_CHANNEL") in {None, "external"}
    assert not list(tmp_path.rglob("PWNED"))


def test_hostile_directory_names_run_nothing(shell: str, tmp_path: Path) -> None:
    # In PowerShell these are a path separator and the end of a drive name; Windows forbids the others.
    forbidden = ("\\:" if shell == "powershell" else "") + ('<>"|?*\n\x1b' if sys.platform == "win32" else "")
    hostile = [name for name in HOSTILE if not set(name) & set(forbidden)]
    names = {f"HOSTILE_{index}": name for index, name in enumerate(hostile)}
    for name in hostile:
        make_project(tmp_path / name)
    with Terminal(shell, tmp_path, env={**names, "BASE": str(tmp_path)}) as terminal:
        for variable, name in names.items():
            visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)
            look = (f"[llmstack:{visible}] ", str(tmp_path / name))
            assert terminal.look(terminal.dialect.enter.format(variable)) == look
        terminal.run(f"cd {tmp_path}")
        assert hook_variables(terminal.environment()) == {}
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.skipif(sys.platform == "win32", reason="the path is too long")
def test_a_project_200_levels_up_is_found(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    deep = project.work_dir.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    with Terminal(shell, tmp_path) as terminal:
        terminal.run(f"cd {deep}")
        assert terminal.active() == str(project.work_dir)


def test_the_hook_keeps_the_exit_status_of_the_last_command(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path) as terminal:
        for line in ("cd project", "true", "cd .."):  # also when the hook has work to do
            terminal.run(line)
            dialect = terminal.dialect
            assert f"{dialect.failure}\n" in terminal.run(dialect.fail, dialect.status)
            if shell in PIPE_STATUS:
                output = terminal.run("false | true | false", f"echo codes {PIPE_STATUS[shell]}")
                assert "codes 1 0 1\n" in output


def test_the_hook_keeps_the_last_background_process(tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal("bash", tmp_path) as terminal:
        terminal.run("true &", "mine=$!")
        assert "same\n" in terminal.run("cd project", '[[ $! == "$mine" ]] && echo "sa"me')


def test_the_hook_keeps_the_users_own_prompt_hooks(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    before = {
        "bash": "PROMPT_COMMAND='mine=$((${mine-0} + 1)); last=$?'",
        "zsh": "precmd() { (( mine += 1 )) }; other() { last=$? }; precmd_functions=(other)",
        "fish": "function mine_event --on-event fish_prompt; set -g mine x; end",
        "powershell": f"function global:prompt {{ $global:mine = 'x'; '{MARK} ' }}",
    }
    after = {
        "bash": 'PROMPT_COMMAND="$PROMPT_COMMAND; after=1"',
        "zsh": "precmd_functions+=(true)",
        "fish": "set -g after 1",
        "powershell": "",
    }
    print_mine = (
        "if ($mine) { 'mine is' + ' set' }"
        if shell == "powershell"
        else 'test -n "$mine" && echo mine is" set"'
    )
    with Terminal(
        shell, tmp_path, before=before[shell], after=f"{after[shell]}\n{hook_line(shell)}"
    ) as terminal:
        terminal.run("cd project", "true", "true")
        assert terminal.prompt() == "[llmstack:project] "
        assert "mine is set" in terminal.run(print_mine)


COUNT = {
    "bash": 'echo "hooks: $(grep -o _llmstack_prompt <<<"${PROMPT_COMMAND[*]}" | wc -l)"',
    "zsh": 'echo "hooks: ${(M)#precmd_functions:#_llmstack_prompt}"',
    "fish": "echo hooks: (functions --handlers | grep -c __llmstack_prompt)",
    "powershell": "\"hooks: $([regex]::Matches((prompt), 'llmstack:').Count)\"",
}


def test_loading_the_hook_twice_installs_it_once(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path / "project") as terminal:
        line = hook_line(shell)
        assert "hooks: 1\n" in terminal.run(line, line, COUNT[shell])
        assert terminal.prompt() == "[llmstack:project] "


STRICT = {
    "bash": ("set -eu; set -o pipefail", "! true"),
    "zsh": ("set -eu; set -o pipefail", "! true"),
    "powershell": ("Set-StrictMode -Version Latest; $ErrorActionPreference = 'Stop'", "Get-Item nowhere"),
}


@pytest.mark.parametrize("shell", [shell for shell in HERE if shell in STRICT])
def test_the_hook_works_in_a_strict_shell(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    make_project(tmp_path / "cloned", trusted=False)
    strict, failing = STRICT[shell]
    with Terminal(shell, tmp_path, before=strict) as terminal:
        assert terminal.look("cd project") == ("[llmstack:project] ", str(tmp_path / "project"))
        for line in (
            failing,
            "cd ..",
            "cd cloned",
            "cd ..",
            "llmstack_deactivate",
            "cd project",
        ):
            terminal.run(line)
        assert f"{terminal.dialect.success}" in terminal.run("true", terminal.dialect.status)


REBUILD = {
    "bash": r"rebuild() { PS1='\n\w\n@@ '; }; PROMPT_COMMAND=${PROMPT_COMMAND:+$PROMPT_COMMAND; }rebuild",
    # Like starship: runs the previous PROMPT_COMMAND from within its own.
    "bash-eval": r"""old=$PROMPT_COMMAND; PROMPT_COMMAND=rebuild
        rebuild() { eval "$old"; PS1='$(echo /)\n@@ '; }""",
    # Like powerlevel10k.
    "zsh": r"""rebuild() { PROMPT=$'\n%~\n@@ ' RPROMPT=right; }; precmd_functions+=(rebuild)""",
    # Like starship.
    "zsh-subst": r"""setopt promptsubst; PROMPT=$'$(echo "/$PWD")\n@@ '; RPROMPT='$(echo right)'""",
    "fish": r"""function fish_prompt; printf '\n%s\n@@ ' (prompt_pwd); end
        function fish_right_prompt; echo right; end""",
    "powershell": f'function global:prompt {{ "`n/`n{MARK} " }}',
}
ORDERS = [
    (framework, order)
    for framework in REBUILD
    for order in ("before", "after")
    # In PowerShell a later prompt function replaces the hook, since nothing else runs at a prompt.
    if framework.partition("-")[0] in HERE and (framework, order) != ("powershell", "after")
]


@pytest.mark.parametrize(("framework", "order"), ORDERS)
def test_the_prefix_survives_a_prompt_that_is_rebuilt(framework: str, order: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    shell = framework.partition("-")[0]
    before, after = (REBUILD[framework], "") if order == "before" else ("", REBUILD[framework])
    with Terminal(shell, tmp_path, before=before, after=after) as terminal:
        terminal.run("cd project")
        for _ in range(2):
            output = terminal.run("true")
            assert output.count("[llmstack:project] ") == len(prompts(output)), output
        line = next(line for line in output.splitlines() if "[llmstack:project]" in line)
        assert line.startswith("[llmstack:project] ")
        assert line.removeprefix("[llmstack:project] ").startswith(("/", "~"))  # on the prompt's first line
        terminal.run("cd ..")
        output = terminal.run("true")
        assert "[llmstack" not in output
        assert MARK in output


def test_a_tmux_pane_outside_the_project_is_not_active(unix_shell: str, tmp_path: Path) -> None:
    """The tmux server gives every pane the environment that it was started with."""
    make_project(tmp_path / "project")
    settings = tmp_path / "tmux.conf"
    settings.write_text(f"set -g default-command '{unix_shell} -i'\n")
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", str(settings)]

    def pane() -> str:
        return subprocess.run(
            [*tmux, "capture-pane", "-p"], capture_output=True, text=True, check=False
        ).stdout

    with Terminal(unix_shell, tmp_path / "project") as terminal:
        terminal.run("true")
        terminal.run(f"{' '.join(tmux)} new-session -d -x 200 -c {tmp_path / 'project'}")
        try:
            wait_until(lambda: f"[llmstack:project] {MARK}" in pane())
            subprocess.run([*tmux, "new-window", "-c", "/"], check=True)
            wait_until(lambda: pane().startswith(MARK))
            subprocess.run([*tmux, "send-keys", "env | grep -c ^LLMSTACK_ACTIVE", "Enter"], check=True)
            wait_until(lambda: "\n0\n" in pane())
        finally:
            subprocess.run([*tmux, "kill-server"], check=False)


def test_deactivating_restores_the_terminal_and_a_removed_hook_does_nothing(
    shell: str, tmp_path: Path
) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path, env={"OPENCODE_CONFIG": "mine"}) as terminal:
        terminal.run("cd project")
        terminal.run("llmstack_deactivate")
        env = terminal.environment()
        assert (terminal.prompt(), hook_variables(env)) == ("", {"OPENCODE_CONFIG": "mine"})
        assert "LLMSTACK_HOOK" not in env
        terminal.run("cd ..", "cd project")
        assert (terminal.prompt(), hook_variables(terminal.environment())) == (
            "",
            {"OPENCODE_CONFIG": "mine"},
        )
        terminal.run(hook_line(shell))
        assert terminal.prompt() == "[llmstack:project] "
    line = hook_line(shell)
    next(Path.home().glob(f".{shell}_llmstack_hook*")).unlink()
    with Terminal(shell, tmp_path / "project", hook=False, before=line) as terminal:
        assert terminal.prompt() == ""  # the line left in the rc file does nothing
        assert terminal.dialect.success in terminal.run("true", terminal.dialect.status)


@pytest.mark.skipif(sys.platform != "linux", reason="reads page faults from /proc")
def test_an_unchanged_prompt_starts_no_process(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    make_project(tmp_path / "cloned", trusted=False)
    deep = project.work_dir.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)

    def faults() -> int:
        """Return the page faults of all ended child processes; every process causes some."""
        return int(Path(f"/proc/{terminal.child.pid}/stat").read_text().rpartition(")")[2].split()[8])

    with Terminal(shell, tmp_path) as terminal:
        before = faults()
        terminal.run(f"cd {deep}")
        assert faults() > before
        for directory in (deep, tmp_path, tmp_path / "cloned"):
            terminal.run(f"cd {directory}")
            wait_until(lambda: not psutil.Process(terminal.child.pid).children())
            before = faults()
            terminal.run(*["true"] * 5)
            assert faults() == before, directory


@pytest.mark.parametrize(
    "name",
    [
        "opencode.json",
        "models.ini",
        "litellm_config.yaml",
        "callback.py",
        "more.yaml",
        "package/__init__.py",
        "active-channel",
    ],
)
def test_a_file_that_gets_its_old_time_back_is_noticed(shell: str, tmp_path: Path, name: str) -> None:
    project = make_project(tmp_path / "project", trusted=False)
    file = project.state / name
    file.parent.mkdir(exist_ok=True)
    old = {"active-channel": "current\n", "models.ini": "[a]\nextra_args = -x\n"}.get(name, "# ------ old\n")
    new = {"active-channel": "external http://127.0.0.1:9\n", "models.ini": "[a]\nextra_args = -y\n"}.get(
        name, "# ------ new\n"
    )
    file.write_text(old)
    trust(project)
    with Terminal(shell, project.work_dir) as terminal:
        assert terminal.active() == str(project.work_dir)
        before = file.stat()
        file.write_text(new)
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        changed = terminal.run("true", "true")
        assert [message for message in messages(changed) if "changed since it was trusted" in message] == [
            (
                f"llmstack: {project.work_dir} is off, {name} changed since it was trusted;"
                " see what it would run: `llmstack trust`"
            )
        ]
        assert terminal.active() is None


def test_a_file_added_with_an_old_time_is_noticed(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with Terminal(shell, project.work_dir) as terminal:
        assert terminal.active() == str(project.work_dir)
        (project.state / "callback.py").write_text("")
        os.utime(project.state / "callback.py", (1, 1))
        assert terminal.active() is None


def test_large_files_do_not_delay_the_prompt(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project", trusted=False)
    callback = project.state / "callback.py"
    callback.write_text("#" * 3_000_000)
    os.utime(callback, (time.time() - 60,) * 2)  # fish knows full seconds only
    trust(project)
    with Terminal(shell, project.work_dir) as terminal:
        assert terminal.active() == str(project.work_dir)
        spent = min(_seconds_of_a_prompt(terminal) for _ in range(5))
        assert spent < 0.5
        callback.write_text("#" * 3_000_001)
        assert terminal.active() is None


def _seconds_of_a_prompt(terminal: Terminal) -> float:
    began = time.monotonic()
    terminal.run("true")
    return time.monotonic() - began
