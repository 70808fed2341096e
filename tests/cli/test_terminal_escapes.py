"""What others say reaches a terminal as text, never as commands to it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from support.hostile_router import RELOAD, ROUTE, STATUS, TIER, answering, documents, own_router, thin_client

from llmstack.terminal_text import printable, printable_line

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import CliProject

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals there")

# To the clipboard, C1 forms of the same, clear the screen, overwrite the line, reverse the text, a link.
EVIL = (
    "evil\x1b]52;c;ZXZpbA==\x07\x9d52;c;ZXZpbA==\x9c\x9b31m\x1b[2J\x1bc\x08\x7f\x00\r\u202elive\u2066"
    "[link=http://evil.example]x[/link][/nothing]"
)
# What the console itself writes: colours, and the spinner's cursor movements.
OWN_SEQUENCES = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[12]?K|\d*A)")


def run_in_terminal(project: CliProject, *args: str, **env: str) -> str:
    """Run a command in a pseudo-terminal and return all that it wrote there."""
    import pty  # noqa: PLC0415 - not there on Windows

    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(project.directory)
        os.execve(  # noqa: S606 - no shell is needed
            sys.executable, [sys.executable, "-m", "llmstack", *args], {**project.env, **env}
        )
    os.write(terminal, b"n\n" * 3)  # the answer to a question, if one is asked
    output = b""
    with contextlib.suppress(OSError):  # the end of the process, on Linux
        while data := os.read(terminal, 65_536):
            output += data
    os.close(terminal)
    os.waitpid(pid, 0)
    return output.decode(errors="surrogateescape")


def assert_harmless(output: str, *, keeps_order: bool = True) -> None:
    """Check what was written; an answer may hold marks of direction, which some languages need."""
    rest = output if keeps_order else re.sub("[\u202a-\u202e\u2066-\u2069]", "", output)
    rest = OWN_SEQUENCES.sub("", rest).replace("\r", "").replace("\n", "").replace("\t", "")
    assert [char for char in rest if not char.isprintable() and char != " "] == []
    assert "Traceback" not in rest


def hostile(value: Any) -> Any:
    """Return a document with every text in it made hostile, but for those that the command looks for."""
    if isinstance(value, dict):
        return {name: text if name in {"name", "preload"} else hostile(text) for name, text in value.items()}
    if isinstance(value, list):
        return [hostile(one) for one in value]
    return f"{value}{EVIL}" if isinstance(value, str) else value


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return f"data: {json.dumps({'choices': [choice]})}\n\n".encode()


ANSWER = (
    event(EVIL) + event("a\ttab\n") + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
)
HOSTILE = documents(
    status=hostile({**STATUS, "tiers": [{**TIER, "detail": "d"}]}),
    route=hostile(ROUTE),
    reload=hostile({**RELOAD, "unavailable": {EVIL: EVIL}}),
    load={"tier": EVIL},
    unload={"unloaded": [EVIL]},
) | {"/v1/chat/completions": ANSWER + b"data: [DONE]\n\n"}
FAILING = dict.fromkeys(("/", "/v1/", "/llmstack/"), json.dumps({"error": {"message": EVIL}}).encode())


@pytest.fixture(params=["hostile", "failing"])
def thin(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    failing = request.param == "failing"
    with (
        answering(FAILING if failing else HOSTILE, status=500 if failing else 200) as url,
        thin_client(tmp_path / "thin", url) as project,
    ):
        yield project


@pytest.mark.parametrize(
    "command",
    [
        ("status",),
        ("route", "hello"),
        ("route", "hello", "--explain"),
        ("check",),
        ("ask", "hello"),
        ("ask", "hello", "--json"),
        ("install",),
        ("start", "--detach"),
        ("reload",),
        ("run", "codex", "--version"),
    ],
    ids=" ".join,
)
def test_a_hostile_router_gives_no_commands_to_the_terminal(
    thin: CliProject, command: tuple[str, ...]
) -> None:
    assert_harmless(run_in_terminal(thin, *command), keeps_order=command != ("ask", "hello"))


@pytest.mark.parametrize("command", ["status", "route hello --explain", "load code-fast", "unload", "reload"])
def test_neither_does_what_has_taken_the_place_of_the_own_router(tmp_path: Path, command: str) -> None:
    with answering(HOSTILE) as url, own_router(tmp_path / "own", url) as project:
        output = run_in_terminal(project, *command.split())
    assert_harmless(output)
    assert "evil" in output


def test_logs_show_their_lines_and_give_no_commands(tmp_path: Path) -> None:
    with answering(HOSTILE) as url, own_router(tmp_path / "own", url) as project:
        (project.state / "logs").mkdir(exist_ok=True)
        (project.state / "logs" / "code-fast.log").write_text(f"before{EVIL}after\n\tnext\n", newline="\n")
        (project.state / "logs" / "[a]x\x1b]52;c;ZXZpbA==\x07.log").write_text("x")
        shown = run_in_terminal(project, "logs", "code-fast")
        listed = run_in_terminal(project, "logs")
    assert_harmless(shown)
    assert "before" in shown
    assert "after" in shown
    assert_harmless(listed)
    assert "[a]x" in listed


@pytest.mark.parametrize(
    "command", ["trust", "start --detach", "check --offline", "install", "download --wait"]
)
def test_neither_do_the_files_of_a_project(tmp_path: Path, command: str) -> None:
    with answering(FAILING, status=500) as url, own_router(tmp_path / "own", url) as project:
        (project.state / "router.pid").unlink()
        ini = project.state / "models.ini"
        ini.write_text(
            f"{ini.read_text()}[x]\nhf_repo = a/b\nhf_file = b.gguf\ndescription = {EVIL[:60]}\n".replace(
                "\r", ""
            )
        )
        (project.state / f"{EVIL[:5]}\x1b]0;t\x07.py").write_text("")
        output = run_in_terminal(project, *command.split(), HF_ENDPOINT=url, HF_HUB_OFFLINE="0")
    assert_harmless(output)


def test_a_provider_and_a_library_give_no_commands(tmp_path: Path) -> None:
    with (
        answering(FAILING, status=400) as url,
        answering(HOSTILE) as router,
        thin_client(tmp_path / "thin", router) as project,
    ):
        address = {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": "k"}
        output = run_in_terminal(project, "ask", "-m", "openai/gpt-5", "hello", **address)
        assert_harmless(output)
        assert "evil" in output
        # A usage error of the command-line library quotes the arguments.
        assert_harmless(run_in_terminal(project, "status", f"--{EVIL}".replace("\0", "")))


def test_a_pipe_gets_the_answer_as_it_is(tmp_path: Path) -> None:
    with answering(HOSTILE) as url, thin_client(tmp_path / "thin", url) as project:
        assert project.run("ask", "hello").check().out.startswith(EVIL)


def test_an_answer_that_the_output_cannot_show_is_written_without_what_it_cannot(tmp_path: Path) -> None:
    body = event("smile \U0001f600 half \ud83d end") + ANSWER
    with (
        answering({**HOSTILE, "/v1/chat/completions": body}) as url,
        thin_client(tmp_path / "thin", url) as project,
    ):
        for encoding, smile in (("cp1252", "?"), ("ascii", "?"), ("utf-8", "\U0001f600")):
            project.env["PYTHONIOENCODING"] = encoding
            process = project.popen("ask", "hello", encoding=encoding, errors="strict")
            out, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")
            assert out.startswith(f"smile {smile} half ? end")


def test_an_answer_that_cannot_be_written_ends_the_command(tmp_path: Path) -> None:
    with (
        answering(HOSTILE) as url,
        thin_client(tmp_path / "thin", url) as project,
        open("/dev/full", "w") as full,  # noqa: PTH123 - a device
    ):
        argv = [sys.executable, "-m", "llmstack", "ask", "hello"]
        process = subprocess.run(
            argv,
            cwd=project.directory,
            env=project.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert process.returncode == 1
    assert "No space left" in process.stderr
    assert "Traceback" not in process.stderr


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("a\r\nb\rc", "a\nbc"),
        ("\x1b[2J\x07\x00", "\ufffd[2J\ufffd\ufffd"),
        ("\x7f\x80\x9b\x9f", "\ufffd" * 4),
        ("gr\u00fc\u00df \u65e5\u672c \U0001f600", "gr\u00fc\u00df \u65e5\u672c \U0001f600"),
        ("half \ud83d", "half \ufffd"),
    ],
)
def test_control_characters_become_visible(text: str, shown: str) -> None:
    assert printable(text) == printable_line(text) == shown


def test_marks_of_direction_stay_in_long_texts_alone() -> None:
    marks = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
    assert printable(marks) == marks
    assert printable_line(marks) == "\ufffd" * len(marks)
