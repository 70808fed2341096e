"""`llmstack download`: in the background, with --wait, two at once, and killed."""

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

from llmstack.process.identity import Identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.hub import FakeHub

BYTES = random.Random(5)  # noqa: S311 - the same bytes in every run
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
def server() -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.files = {
            "org/fast/fast.gguf": LARGE,
            **{f"org/fast/{name}": SMALL + name.encode() for name in SHARDS},
        }
        yield hub


@pytest.fixture
def here(tmp_path: Path, server: FakeHub) -> Iterator[CliProject]:
    project = CliProject(tmp_path / "project")
    project.env |= {"HF_ENDPOINT": server.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
    project.state.mkdir(parents=True)
    (project.state / "models.ini").write_text(INI)
    project.trust()
    yield project
    try:
        wait_until(lambda: not project.processes(), timeout=20)
    finally:
        for process in project.processes():
            process.kill()


def read_state(project: CliProject) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads((project.state / "downloads.json").read_text())
    except FileNotFoundError:
        return {"items": []}
    return state


def states(project: CliProject) -> list[str]:
    return [item["state"] for item in read_state(project)["items"]]


def cached_bytes(project: CliProject, file: str) -> bytes | None:
    path = try_to_load_from_cache("org/fast", file, cache_dir=project.env["HF_HUB_CACHE"])
    return Path(path).read_bytes() if isinstance(path, str) else None


def test_a_background_download_has_logs_and_a_state(here: CliProject, server: FakeHub) -> None:
    server.bytes_per_s = 20e6
    started = here.run_process("download").check()
    assert started.err.startswith("fetching 2 files in the background (pid ")
    assert f"  code-fast: fast.gguf, log {here.state}/logs/dl-code-fast-current.log\n" in started.err
    running = here.run_process("status", "--json")
    items = json.loads(running.out)["downloads"]
    assert [(item["tier"], item["label"]) for item in items] == [
        ("code-fast", "current"),
        ("code-fast", "next"),
    ]
    wait_until(lambda: states(here) == ["done", "done"], timeout=20)
    assert cached_bytes(here, "fast.gguf") == LARGE
    assert [cached_bytes(here, name) for name in SHARDS] == [SMALL + name.encode() for name in SHARDS]
    assert "SHA-256 verified" in (here.state / "logs" / "dl-code-fast-next.log").read_text()
    assert "downloads: 2 of 2 files done" in here.run("status").out
    sent_bytes = server.sent_bytes
    again = here.run_process("download").check()
    assert again.err.splitlines()[-1] == "nothing to fetch: every file is on disk"
    assert server.sent_bytes == sent_bytes


def test_with_wait_and_piped_output_progress_is_printed_in_lines(here: CliProject) -> None:
    done = here.run_process("download", "--wait", "code-fast").check()
    lines = done.err.splitlines()
    assert "code-fast: done, 100%, 25.2 MB of 25.2 MB" in lines
    assert "code-fast (next): done, 100%, 600.1 kB of 600.1 kB" in lines
    assert lines[-2:] == [
        "code-fast: fast.gguf is on disk, 25.2 MB",
        "code-fast (next): fast-next-00001-of-00003.gguf is on disk, 600.1 kB",
    ]
    shares = [
        int(line.split(", ")[1].rstrip("%")) for line in lines if line.startswith("code-fast: fetching")
    ]
    assert shares == sorted(shares)
    assert "\x1b" not in done.err + done.out


def test_only_the_requested_files_are_downloaded(here: CliProject) -> None:
    here.run("download", "--wait", "--next").check()
    assert cached_bytes(here, SHARDS[2]) is not None
    assert cached_bytes(here, "fast.gguf") is None
    unknown = here.run("download", "code-fats")
    assert (unknown.code, unknown.err) == (
        2,
        "error: no tier is called `code-fats`\nhint: known are code-fast, mine\n",
    )
    assert here.run("download", "mine").check().err == "nothing to fetch\n"


def test_of_two_downloads_at_once_one_runs_and_the_other_is_refused_or_waits(
    here: CliProject, server: FakeHub
) -> None:
    server.bytes_per_s = 1.5e6
    here.run("download", "--current").check()
    second = here.run("download", "--current")
    assert second.code == 1
    assert "error: a download is running already (pid " in second.err
    assert "hint: see it with `llmstack status`, or wait for it with `llmstack download --wait`" in second.err
    waited = here.run("download", "--current", "--wait").check()
    assert "waiting for it" in waited.err
    assert waited.err.endswith("every file is on disk\n")
    assert cached_bytes(here, "fast.gguf") == LARGE
    assert server.sent_bytes == len(LARGE) + 1


def test_a_killed_download_is_reported_and_resumed(here: CliProject, server: FakeHub) -> None:
    server.bytes_per_s = 2e6
    here.run("download", "--current").check()
    wait_until(lambda: server.sent_bytes > len(LARGE) / 3, timeout=20)
    worker = Identity.from_json(read_state(here))
    os.kill(worker.pid, signal.SIGKILL)
    wait_until(
        lambda: not worker.is_alive, timeout=5
    )  # the command line of a dying process vanishes before its pid
    status = here.run("status")
    assert "interrupted" in status.out
    assert "resume with `llmstack download`; what was fetched is kept" in status.err
    server.bytes_per_s = None
    here.run("download", "--current", "--wait").check()
    assert cached_bytes(here, "fast.gguf") == LARGE
    assert server.sent_bytes <= 1.05 * len(LARGE)


def test_ctrl_c_stops_a_download_and_the_next_run_resumes(here: CliProject, server: FakeHub) -> None:
    server.bytes_per_s = 2e6
    waiting = here.popen("download", "--current", "--wait")
    wait_until(lambda: server.sent_bytes > len(LARGE) / 3, timeout=20)
    waiting.send_signal(signal.SIGINT)
    assert waiting.communicate(timeout=10)[1].splitlines()[-1].startswith("code-fast: interrupted")
    assert waiting.returncode == 130
    assert states(here) == ["interrupted"]
    server.bytes_per_s = None
    here.run("download", "--current", "--wait").check()
    assert server.sent_bytes <= 1.05 * len(LARGE)


def test_a_file_that_fails_does_not_stop_the_others(here: CliProject, server: FakeHub) -> None:
    del server.files["org/fast/fast.gguf"]
    done = here.run("download", "--wait")
    assert done.code == 1
    assert "warning: code-fast: org/fast has no file fast.gguf (404)" in done.err
    assert f"hint: see {server.url}/org/fast/tree/main" in done.err
    assert states(here) == ["failed", "done"]
    assert cached_bytes(here, SHARDS[0]) is not None


def test_links_in_a_cloned_project_are_not_written_through(here: CliProject, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    for name in ("downloads.json", "logs/dl-code-fast-current.log"):
        link = here.state / name
        hint = "hint: replace it with a file of its own\n"
        message = f"error: {link} is a link that leads out of the project\n{hint}"
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(victim)
        for options in ([], ["--wait"]):
            refused = here.run("download", *options)
            assert (refused.code, refused.err) == (1, message)
        link.unlink()
    (here.state / "downloads.json").write_text('{"pid": 1, "started": 0, "items": [{"tier": "[red]x"}]}')
    assert here.run("status", "--json").code == 1
    assert victim.read_text() == "precious"


def test_without_a_project_the_default_profile_is_downloaded_and_logged_in_the_users_directory(
    tmp_path: Path, server: FakeHub
) -> None:
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
    assert "HF_HUB_OFFLINE forbids downloading it" in offline.err


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal to ask in")
@pytest.mark.parametrize(
    ("key", "output", "code"),
    [
        ("\r", "nothing fetched; `llmstack download TIER` fetches only what you want\r\n", 0),
        ("\x03", "^C\r\n", 130),
    ],
)
def test_without_a_project_a_person_is_asked_before_everything_is_downloaded(
    tmp_path: Path, key: str, output: str, code: int
) -> None:
    here = CliProject(tmp_path / "nowhere")
    here.directory.mkdir()
    argv = [sys.executable, "-m", "llmstack", "download"]
    child = pexpect.spawn(argv[0], argv[1:], cwd=here.directory, env=here.env, encoding="utf-8", timeout=20)
    child.expect(r"There is no project here\. Fetch the default profile: 7 files, about \d+.* GB\?")
    child.send(key)
    child.expect(pexpect.EOF)
    assert child.before.endswith(output)
    child.close()
    assert child.exitstatus == code
    assert not Path(here.env["XDG_STATE_HOME"], "llmstack", "downloads.json").exists()
