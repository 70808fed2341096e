"""`llmstack download` as a user runs it: in the background and waited for, one and two at a time, killed."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pexpect
import pytest
from huggingface_hub import try_to_load_from_cache
from support.hub import running_hub
from support.project import CliProject
from support.waiting import wait_until

from llmstack.process.identity import identity_from

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.hub import Hub

BYTES = random.Random(5)  # noqa: S311 - the same at each run
SMALL, LARGE = BYTES.randbytes(200_000), BYTES.randbytes(24 * 1024 * 1024)
INI = """
[code-fast]
role = fast
hf_repo = org/fast
hf_file = fast.gguf
hf_file_next = fast-next-00001-of-00003.gguf
ctx_size = 8k
[mine]
path = /m.gguf
ctx_size = 8k
"""
SHARDS = [f"fast-next-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


@pytest.fixture
def server() -> Iterator[Hub]:
    with running_hub() as hub:
        hub.files = {
            "org/fast/fast.gguf": LARGE,
            **{f"org/fast/{name}": SMALL + name.encode() for name in SHARDS},
        }
        yield hub


@pytest.fixture
def here(tmp_path: Path, server: Hub) -> Iterator[CliProject]:
    project = CliProject(tmp_path / "project")
    project.env |= {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
    project.state.mkdir(parents=True)
    (project.state / "models.ini").write_text(INI)
    yield project
    try:
        wait_until(lambda: not project.processes(), timeout=20)
    finally:
        for process in project.processes():
            process.kill()


def state(project: CliProject) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((project.state / "downloads.json").read_text())
    except FileNotFoundError:
        return {"items": []}
    return found


def states(project: CliProject) -> list[str]:
    return [item["state"] for item in state(project)["items"]]


def cached(project: CliProject, file: str) -> bytes | None:
    from pathlib import Path  # noqa: PLC0415

    found = try_to_load_from_cache("org/fast", file, cache_dir=project.env["HF_HUB_CACHE"])
    return Path(found).read_bytes() if isinstance(found, str) else None


def test_in_the_background_with_logs_and_a_state_to_read(here: CliProject, server: Hub) -> None:
    server.rate = 20e6
    began = here.run_process("download").check()
    assert began.err.startswith("fetching 2 files in the background (pid ")
    assert f"  code-fast: fast.gguf, log {here.state}/logs/dl-code-fast-current.log\n" in began.err
    running = here.run_process("status", "--json")
    items = json.loads(running.out)["downloads"]
    assert [(item["tier"], item["label"]) for item in items] == [
        ("code-fast", "current"),
        ("code-fast", "next"),
    ]
    wait_until(lambda: states(here) == ["done", "done"], timeout=20)
    assert cached(here, "fast.gguf") == LARGE
    assert [cached(here, name) for name in SHARDS] == [SMALL + name.encode() for name in SHARDS]
    assert "SHA-256 verified" in (here.state / "logs" / "dl-code-fast-next.log").read_text()
    assert "downloads: 2 of 2 files done" in here.run("status").out
    sent = server.sent
    again = here.run_process("download").check()
    assert again.err.splitlines()[-1] == "nothing to fetch: every file is on disk"
    assert server.sent == sent


def test_waited_for_and_piped_it_prints_lines(here: CliProject) -> None:
    done = here.run_process("download", "--wait", "code-fast").check()
    lines = done.err.splitlines()
    assert "code-fast: done, 100%, 25.2 MB of 25.2 MB" in lines
    assert "code-fast (next): done, 100%, 600.1 kB of 600.1 kB" in lines
    assert lines[-2:] == [
        "code-fast: fast.gguf is here, 25.2 MB",
        "code-fast (next): fast-next-00001-of-00003.gguf is here, 600.1 kB",
    ]
    shares = [
        int(line.split(", ")[1].rstrip("%")) for line in lines if line.startswith("code-fast: fetching")
    ]
    assert shares == sorted(shares)
    assert "\x1b" not in done.err + done.out


def test_only_what_is_asked_for(here: CliProject) -> None:
    here.run("download", "--wait", "--next").check()
    assert cached(here, SHARDS[2]) is not None
    assert cached(here, "fast.gguf") is None
    unknown = here.run("download", "code-fats")
    assert (unknown.code, unknown.err) == (
        2,
        "error: no tier is called `code-fats`\nhint: known are code-fast, mine\n",
    )
    assert here.run("download", "mine").check().err == "nothing to fetch\n"


def test_two_at_once_one_fetches(here: CliProject, server: Hub) -> None:
    server.rate = 1.5e6
    here.run("download", "--current").check()
    second = here.run("download", "--current")
    assert second.code == 1
    assert "error: a download is running already (pid " in second.err
    assert "hint: see it with `llmstack status`, or wait for it with `llmstack download --wait`" in second.err
    waited = here.run("download", "--current", "--wait").check()
    assert "waiting for it" in waited.err
    assert waited.err.endswith("every file is here\n")
    assert cached(here, "fast.gguf") == LARGE
    assert server.sent == len(LARGE) + 1


def test_a_killed_download_is_reported_and_goes_on(here: CliProject, server: Hub) -> None:
    server.rate = 2e6
    here.run("download", "--current").check()
    wait_until(lambda: server.sent > len(LARGE) / 3, timeout=20)
    worker = identity_from(state(here))
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(lambda: not worker.alive, timeout=5)  # its command line is gone before it is
    status = here.run("status")
    assert "interrupted" in status.out
    assert "go on with `llmstack download`: what was fetched is kept" in status.err
    server.rate = None
    here.run("download", "--current", "--wait").check()
    assert cached(here, "fast.gguf") == LARGE
    assert server.sent <= 1.05 * len(LARGE)


def test_ctrl_c_stops_it_and_the_next_run_goes_on(here: CliProject, server: Hub) -> None:
    server.rate = 2e6
    waiting = here.popen("download", "--current", "--wait")
    wait_until(lambda: server.sent > len(LARGE) / 3, timeout=20)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=10)[1].splitlines()[-1].startswith("code-fast: interrupted")
    assert waiting.returncode == 130
    assert states(here) == ["interrupted"]
    server.rate = None
    here.run("download", "--current", "--wait").check()
    assert server.sent <= 1.05 * len(LARGE)


def test_what_cannot_be_had_does_not_keep_the_rest(here: CliProject, server: Hub) -> None:
    del server.files["org/fast/fast.gguf"]
    done = here.run("download", "--wait")
    assert done.code == 1
    assert "warning: code-fast: org/fast has no file fast.gguf (404)" in done.err
    assert f"hint: see {server.url}/org/fast/tree/main" in done.err
    assert states(here) == ["failed", "done"]
    assert cached(here, SHARDS[0]) is not None


def test_a_cloned_project_does_not_choose_what_is_written_to(here: CliProject, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("precious")
    for name in ("downloads.json", "logs/dl-code-fast-current.log"):
        link = here.state / name
        hint = "hint: replace it with a file of its own\n"
        said = f"error: {link} is a link that leads out of the project\n{hint}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(mine)
        for more in ([], ["--wait"]):
            refused = here.run("download", *more)
            assert (refused.code, refused.err) == (1, said)
        link.unlink()
    (here.state / "downloads.json").write_text('{"pid": 1, "started": 0, "items": [{"tier": "[red]x"}]}')
    assert here.run("status", "--json").code == 1
    assert mine.read_text() == "precious"


def test_without_a_project_the_default_profile_and_the_users_own_log(tmp_path: Path, server: Hub) -> None:
    file = "qwen2.5-coder-3b-instruct-q5_k_m.gguf"
    server.files[f"Qwen/Qwen2.5-Coder-3B-Instruct-GGUF/{file}"] = SMALL
    here = CliProject(tmp_path / "nowhere")
    here.directory.mkdir()
    here.env["HF_ENDPOINT"] = server.url
    here.run("download", "--wait", "code-fast").check()
    assert not here.state.exists()
    state_home = here.env["XDG_STATE_HOME"]
    assert os.path.isfile(f"{state_home}/llmstack/logs/dl-code-fast-current.log")  # noqa: PTH113
    here.env["HF_HUB_OFFLINE"] = "1"
    offline = here.run("download", "--wait", "plan")
    assert offline.code == 1
    assert "HF_HUB_OFFLINE forbids to fetch it" in offline.err


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal to ask in")
@pytest.mark.parametrize(
    ("key", "said", "code"),
    [
        ("\r", "nothing is fetched; `llmstack download TIER` fetches the ones you want\r\n", 0),
        ("\x03", "^C\r\n", 130),
    ],
)
def test_without_a_project_a_person_is_asked_before_everything_is_fetched(
    tmp_path: Path, key: str, said: str, code: int
) -> None:
    here = CliProject(tmp_path / "nowhere")
    here.directory.mkdir()
    argv = [sys.executable, "-m", "llmstack", "download"]
    child = pexpect.spawn(argv[0], argv[1:], cwd=here.directory, env=here.env, encoding="utf-8", timeout=20)
    child.expect(r"There is no project here\. Fetch the default profile: 7 files, about \d+.* GB\?")
    child.send(key)
    child.expect(pexpect.EOF)
    assert child.before.endswith(said)
    child.close()
    assert child.exitstatus == code
    assert not Path(here.env["XDG_STATE_HOME"], "llmstack", "downloads.json").exists()
