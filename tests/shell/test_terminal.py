"""Entering and leaving projects in real interactive shells."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.dialects import DIALECTS, HERE, MARK, UNIX
from support.terminal import Terminal, hook_line, make_project, messages, prompts, trust
from support.waiting import wait_until

from llmstack.channel import CURRENT, NEXT, external, write_marker
from llmstack.paths import UserDirs
from llmstack.shell.environment import NAMES, SAVED
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


def ours(env: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name in NAMES or name.startswith(SAVED)}


def test_every_way_in_and_out(shell: str, tmp_path: Path) -> None:
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
            wanted = (f"[llmstack:{expected.name}] ", str(expected)) if expected else ("", None)
            assert terminal.look(line) == wanted, line


@pytest.mark.skipif(sys.platform == "win32", reason="a directory that is in use stays")
def test_a_directory_that_is_deleted_or_moved_away(shell: str, tmp_path: Path) -> None:
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
    had = (
        {}
        if before == "unset"
        else {name: "" if before == "empty" else f"mine: {name} $x '" for name in NAMES}
    )
    had.pop("LLMSTACK_ACTIVE", None)  # says that a terminal is active already
    if (shell, before) == ("powershell", "empty"):
        had = {}  # an empty variable is none there before 7.5
    with Terminal(shell, tmp_path, env=had) as terminal:
        terminal.run("cd project")
        env = terminal.environment()
        assert env["LLMSTACK_REMOTE_URL"] == "http://127.0.0.1:1"
        assert env["LLMSTACK_CHANNEL"] == "external"
        assert (Path(env["LLMSTACK_ROOT"]) / "shell").is_dir()
        terminal.run("cd ..")
        assert ours(terminal.environment()) == had


def test_what_was_not_exported_is_not_afterwards(unix_shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    mine = "set -g OPENCODE_CONFIG mine" if unix_shell == "fish" else "OPENCODE_CONFIG=mine"
    with Terminal(unix_shell, tmp_path, after=mine) as terminal:
        terminal.run("cd project")
        assert terminal.environment()["OPENCODE_CONFIG"].startswith(str(tmp_path))
        terminal.run("cd ..")
        assert ours(terminal.environment()) == {}
        assert "still mine\n" in terminal.run('echo "still $OPENCODE_CONFIG"')
        terminal.run("cd project")
        terminal.child.sendline(terminal.dialect.child)
        terminal.child.expect_exact(MARK)
        terminal.run("cd ..")
        # As a child of a terminal that was never in the project.
        assert ours(terminal.environment()) == {}


def test_a_child_shell_shows_the_prefix_and_leaves_as_its_parent_would(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path, env={"OPENCODE_CONFIG": "mine"}) as terminal:
        terminal.run("cd project")
        terminal.child.sendline(terminal.dialect.child)
        terminal.child.expect_exact(MARK)
        assert terminal.prompt() == "[llmstack:project] "
        terminal.run("cd ..")
        assert terminal.prompt() == ""
        assert ours(terminal.environment()) == {"OPENCODE_CONFIG": "mine"}
        terminal.run("exit")
        assert terminal.prompt() == "[llmstack:project] "
        terminal.run("cd ..")
        assert terminal.prompt() == ""
        assert ours(terminal.environment()) == {"OPENCODE_CONFIG": "mine"}


def test_a_switched_channel_is_taken_up_at_the_next_prompt(shell: str, tmp_path: Path) -> None:
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


def test_the_prompt_gets_no_line_more(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path) as terminal:
        terminal.run("cd project")
        shown = terminal.run("true", "true")
        assert "[llmstack:project] " in shown
        assert "\n\n" not in shown


def test_colors(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    with Terminal(shell, project.work_dir) as terminal:
        for marker, color in (("current", 67), ("next", 208)):
            project.active_channel.write_text(f"{marker}\n")
            terminal.child.sendline("true")
            terminal.child.expect(rf"\x1b\[38;5;{color}m\[llmstack:project[^\]]*\]")
            terminal.run("true")


def test_trust_at_the_prompt(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "cloned", trusted=False)
    (project.work_dir / "sub").mkdir()
    with Terminal(shell, tmp_path) as terminal:
        entered = terminal.run("cd cloned", "cd sub", "true", "cd ..")
        said = f"llmstack: {project.work_dir} is not trusted; see what it would run: `llmstack trust`"
        assert messages(entered) == [said]
        assert terminal.look() == ("", None)
        make_project(tmp_path / "elsewhere")  # what others trust asks nothing here
        assert messages(terminal.run("true")) == []
        assert messages(terminal.run("cd ..", "cd cloned")) == [said]  # once per entry

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
        assert messages(terminal.run("true")) == [said]
        assert terminal.active() is None


def test_an_install_is_noticed_at_the_next_prompt(shell: str, tmp_path: Path) -> None:
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
def test_a_hostile_marker_changes_nothing(shell: str, tmp_path: Path, marker: str) -> None:
    project = make_project(tmp_path / "cloned", channel=marker, trusted=False)
    project.active_channel.write_text(marker)
    with Terminal(shell, tmp_path) as terminal:
        assert len(messages(terminal.run("cd cloned", "true"))) == 1
        assert terminal.active() is None
        trust(project)  # a user who waves it through
        terminal.run("true")
        assert MARK in terminal.run("true")
        assert terminal.environment().get("LLMSTACK_CHANNEL") in {None, "external"}
    assert not list(tmp_path.rglob("PWNED"))


def test_hostile_names(shell: str, tmp_path: Path) -> None:
    # PowerShell itself takes these for a separator and the end of a drive's name; Windows has no such names.
    barred = ("\\:" if shell == "powershell" else "") + ('<>"|?*\n\x1b' if sys.platform == "win32" else "")
    hostile = [name for name in HOSTILE if not set(name) & set(barred)]
    names = {f"HOSTILE_{index}": name for index, name in enumerate(hostile)}
    for name in hostile:
        make_project(tmp_path / name)
    with Terminal(shell, tmp_path, env={**names, "BASE": str(tmp_path)}) as terminal:
        for variable, name in names.items():
            visible = "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)
            wanted = (f"[llmstack:{visible}] ", str(tmp_path / name))
            assert terminal.look(terminal.dialect.enter.format(variable)) == wanted
        terminal.run(f"cd {tmp_path}")
        assert ours(terminal.environment()) == {}
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.skipif(sys.platform == "win32", reason="a path of such a length")
def test_200_levels_deep(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    deep = project.work_dir.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    with Terminal(shell, tmp_path) as terminal:
        terminal.run(f"cd {deep}")
        assert terminal.active() == str(project.work_dir)


def test_the_exit_codes_of_the_last_command_are_kept(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path) as terminal:
        for line in ("cd project", "true", "cd .."):  # also where the hook has something to do
            terminal.run(line)
            dialect = terminal.dialect
            assert f"{dialect.failure}\n" in terminal.run(dialect.fail, dialect.status)
            if shell in PIPE_STATUS:
                shown = terminal.run("false | true | false", f"echo codes {PIPE_STATUS[shell]}")
                assert "codes 1 0 1\n" in shown


def test_the_last_background_process_stays_the_last(tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal("bash", tmp_path) as terminal:
        terminal.run("true &", "mine=$!")
        assert "same\n" in terminal.run("cd project", '[[ $! == "$mine" ]] && echo "sa"me')


def test_what_a_user_has_at_the_prompt_is_kept(shell: str, tmp_path: Path) -> None:
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
    say = (
        "if ($mine) { 'mine is' + ' set' }"
        if shell == "powershell"
        else 'test -n "$mine" && echo mine is" set"'
    )
    with Terminal(
        shell, tmp_path, before=before[shell], after=f"{after[shell]}\n{hook_line(shell)}"
    ) as terminal:
        terminal.run("cd project", "true", "true")
        assert terminal.prompt() == "[llmstack:project] "
        assert "mine is set" in terminal.run(say)


COUNT = {
    "bash": 'echo "hooks: $(grep -o _llmstack_prompt <<<"${PROMPT_COMMAND[*]}" | wc -l)"',
    "zsh": 'echo "hooks: ${(M)#precmd_functions:#_llmstack_prompt}"',
    "fish": "echo hooks: (functions --handlers | grep -c __llmstack_prompt)",
    "powershell": "\"hooks: $([regex]::Matches((prompt), 'llmstack:').Count)\"",
}


def test_a_hook_that_is_read_twice_is_one(shell: str, tmp_path: Path) -> None:
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
def test_a_strict_shell_survives(shell: str, tmp_path: Path) -> None:
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
    # As starship does: what was in PROMPT_COMMAND is run from within.
    "bash-eval": r"""old=$PROMPT_COMMAND; PROMPT_COMMAND=rebuild
        rebuild() { eval "$old"; PS1='$(echo /)\n@@ '; }""",
    # As powerlevel10k does.
    "zsh": r"""rebuild() { PROMPT=$'\n%~\n@@ ' RPROMPT=right; }; precmd_functions+=(rebuild)""",
    # As starship does.
    "zsh-subst": r"""setopt promptsubst; PROMPT=$'$(echo "/$PWD")\n@@ '; RPROMPT='$(echo right)'""",
    "fish": r"""function fish_prompt; printf '\n%s\n@@ ' (prompt_pwd); end
        function fish_right_prompt; echo right; end""",
    "powershell": f'function global:prompt {{ "`n/`n{MARK} " }}',
}
ORDERS = [
    (framework, order)
    for framework in REBUILD
    for order in ("before", "after")
    # What is defined after the hook in PowerShell replaces it: nothing else runs at a prompt there.
    if framework.partition("-")[0] in HERE and (framework, order) != ("powershell", "after")
]


@pytest.mark.parametrize(("framework", "order"), ORDERS)
def test_prompts_that_are_rebuilt(framework: str, order: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    shell = framework.partition("-")[0]
    before, after = (REBUILD[framework], "") if order == "before" else ("", REBUILD[framework])
    with Terminal(shell, tmp_path, before=before, after=after) as terminal:
        terminal.run("cd project")
        for _ in range(2):
            shown = terminal.run("true")
            assert shown.count("[llmstack:project] ") == len(prompts(shown)), shown
        line = next(line for line in shown.splitlines() if "[llmstack:project]" in line)
        assert line.startswith("[llmstack:project] ")
        assert line.removeprefix("[llmstack:project] ").startswith(("/", "~"))  # on the prompt's first line
        terminal.run("cd ..")
        shown = terminal.run("true")
        assert "[llmstack" not in shown
        assert MARK in shown


def test_tmux_inside_an_active_shell(unix_shell: str, tmp_path: Path) -> None:
    """Its server passes on what it was started with, wherever a pane is."""
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


def test_deactivate_and_removal(shell: str, tmp_path: Path) -> None:
    make_project(tmp_path / "project")
    with Terminal(shell, tmp_path, env={"OPENCODE_CONFIG": "mine"}) as terminal:
        terminal.run("cd project")
        terminal.run("llmstack_deactivate")
        env = terminal.environment()
        assert (terminal.prompt(), ours(env)) == ("", {"OPENCODE_CONFIG": "mine"})
        assert "LLMSTACK_HOOK" not in env
        terminal.run("cd ..", "cd project")
        assert (terminal.prompt(), ours(terminal.environment())) == ("", {"OPENCODE_CONFIG": "mine"})
        terminal.run(hook_line(shell))
        assert terminal.prompt() == "[llmstack:project] "
    line = hook_line(shell)
    next(Path.home().glob(f".{shell}_llmstack_hook*")).unlink()
    with Terminal(shell, tmp_path / "project", hook=False, before=line) as terminal:
        assert terminal.prompt() == ""  # the line that stayed behind does nothing
        assert terminal.dialect.success in terminal.run("true", terminal.dialect.status)


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
def test_an_unchanged_prompt_starts_no_process(shell: str, tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    make_project(tmp_path / "cloned", trusted=False)
    deep = project.work_dir.joinpath(*["d"] * 20)
    deep.mkdir(parents=True)

    def faults() -> int:
        """Page faults of every child that has ended: any child has some."""
        return int(Path(f"/proc/{terminal.child.pid}/stat").read_text().rpartition(")")[2].split()[8])

    with Terminal(shell, tmp_path) as terminal:
        before = faults()
        terminal.run(f"cd {deep}")
        assert faults() > before
        for place in (deep, tmp_path, tmp_path / "cloned"):
            terminal.run(f"cd {place}")
            wait_until(lambda: not psutil.Process(terminal.child.pid).children())
            before = faults()
            terminal.run(*["true"] * 5)
            assert faults() == before, place
