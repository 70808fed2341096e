"""The fetch against a server that misbehaves: the right bytes, or a clear error, nothing that looks whole."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.hub import Fault
from support.waiting import wait_until

from llmstack.download.fetch import FetchRequest, Watcher, fetch
from llmstack.download.partial_file import Partial, Spans
from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from support.hub import Hub

DICE = random.Random(1)  # noqa: S311 - the same at each run
CONTENT = DICE.randbytes(1_000_003)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = FetchLimits(connections=4, chunk_bytes=150_000, stall_s=0.5, tries=4, backoff_s=0.01)
CHILD = Path(__file__).with_name("fetch_child.py")


class Recorder(Watcher):
    def __init__(self) -> None:
        self.done: list[int] = []
        self.said: list[str] = []

    def progress(self, done: int, total: int | None) -> None:  # noqa: ARG002
        self.done.append(done)

    def tell(self, text: str) -> None:
        self.said.append(text)


def get(
    hub_server: Hub, tmp_path: Path, *, limits: FetchLimits = QUICK, sha256: str | None = SHA256
) -> Recorder:
    """Fetch the file `m`; the progress must never have run backwards."""
    hub_server.files.setdefault("m", CONTENT)
    recorder = Recorder()
    wanted = FetchRequest(hub_server.cdn("m"), tmp_path / "m", sha256=sha256)
    try:
        asyncio.run(fetch(wanted, limits=limits, watcher=recorder))
    finally:
        assert recorder.done == sorted(recorder.done)
    return recorder


def whole(tmp_path: Path) -> bool:
    """The file is right, and nothing but its lock is left beside it."""
    left = {path.name for path in tmp_path.iterdir()} - {"m", "m.lock"}
    return (tmp_path / "m").read_bytes() == CONTENT and not left


def test_several_ranges_at_once_make_the_file(hub_server: Hub, tmp_path: Path) -> None:
    recorder = get(hub_server, tmp_path)
    assert whole(tmp_path)
    assert recorder.done[-1] == len(CONTENT)
    ranges = [headers["range"] for headers in hub_server.requests("cdn")]
    assert len(ranges) == len(set(ranges)) == 8  # the question what it is, and 7 chunks
    assert hub_server.sent == len(CONTENT) + 1


def test_what_is_there_is_not_fetched_again(hub_server: Hub, tmp_path: Path) -> None:
    get(hub_server, tmp_path)
    asked = len(hub_server.asked)
    get(hub_server, tmp_path)
    assert len(hub_server.asked) == asked


FAULTS = {
    "cut": [Fault(cut=at) for at in (0, 1, 99_999, 149_999)],
    "cut often": [Fault(cut=DICE.randrange(1, 150_000)) for _ in range(30)],
    "stall": [Fault(stall=50_000)],
    "429": [Fault(status=429)],
    "503 and when to come back": [Fault(status=503, retry_after="0.3")],
    "502 on every connection": [Fault(status=502)] * 4,
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_what_passes_is_retried(hub_server: Hub, tmp_path: Path, faults: list[Fault]) -> None:
    hub_server.faults.extend(faults)
    began = time.monotonic()
    recorder = get(hub_server, tmp_path)
    assert whole(tmp_path)
    assert recorder.said
    assert all("; trying again in " in text for text in recorder.said)
    if faults[0].retry_after:
        assert time.monotonic() - began >= 0.3
    assert hub_server.sent <= len(CONTENT) * 1.01


@pytest.mark.parametrize(
    "fault", [Fault(cut=0), Fault(status=503), Fault(stall=0)], ids=["cut", "503", "stall"]
)
def test_what_does_not_pass_is_a_clear_error_and_the_next_run_goes_on(
    hub_server: Hub, tmp_path: Path, fault: Fault
) -> None:
    hub_server.faults.extend([Fault(), *[fault] * 40])
    with pytest.raises(LlmstackError) as error:
        get(hub_server, tmp_path, limits=FetchLimits(1, 150_000, stall_s=0.1, tries=3, backoff_s=0.01))
    assert "(3 tries)" in str(error.value)
    assert "what was fetched is kept" in str(error.value.hint)
    assert not (tmp_path / "m").exists()
    hub_server.faults.clear()
    before = hub_server.sent
    get(hub_server, tmp_path)
    assert whole(tmp_path)
    assert hub_server.sent - before <= len(CONTENT) - 150_000 + 1


def test_a_wait_that_is_too_long_is_refused(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.faults.extend([Fault(status=429, retry_after="86400")] * 4)
    with pytest.raises(LlmstackError, match="asks to wait 1440 min"):
        get(hub_server, tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_retried(hub_server: Hub, tmp_path: Path, status: int) -> None:
    hub_server.faults.extend([Fault(status=status)] * 4)
    with pytest.raises(LlmstackError, match=f"m: localhost answered {status}"):
        get(hub_server, tmp_path)
    assert not (tmp_path / "m").exists()


def test_without_ranges_it_comes_in_one_piece(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.ranges = False
    hub_server.faults.extend([Fault(cut=300_000), Fault(cut=600_000)])
    get(hub_server, tmp_path)
    assert whole(tmp_path)


def test_without_ranges_and_length_it_ends_where_the_stream_does(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.ranges = hub_server.length = False
    get(hub_server, tmp_path)
    assert whole(tmp_path)


def test_an_empty_file(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.files["m"] = b""
    get(hub_server, tmp_path, sha256=None)
    assert (tmp_path / "m").read_bytes() == b""


def test_a_wrong_checksum_leaves_nothing(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.wrong = True
    with pytest.raises(LlmstackError) as error:
        get(hub_server, tmp_path)
    assert str(error.value) == f"m: the SHA-256 of what was fetched is not {SHA256}"
    assert {path.name for path in tmp_path.iterdir()} == {"m.lock"}


def test_a_wrong_checksum_after_a_resumed_download_is_tried_once_from_the_start(
    hub_server: Hub, tmp_path: Path
) -> None:
    begun = Partial(tmp_path / "m", size=None, sha256=SHA256)
    begun.write(0, b"\0" * 500_000)  # as after a power cut
    begun.describe(size=len(CONTENT), etag=f'"{hashlib.md5(CONTENT).hexdigest()}"')  # noqa: S324
    begun.close()
    recorder = get(hub_server, tmp_path)
    assert whole(tmp_path)
    assert recorder.said == ["the checksum is wrong after a resumed download: once more from the start"]


def test_a_file_that_changed_between_two_tries_is_fetched_anew(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.files["m"] = CONTENT[::-1]
    hub_server.faults.extend([Fault(), *[Fault(cut=0)] * 20])
    with pytest.raises(LlmstackError):
        get(hub_server, tmp_path, sha256=None)
    hub_server.faults.clear()
    hub_server.files["m"] = CONTENT
    recorder = get(hub_server, tmp_path, sha256=None)
    assert whole(tmp_path)
    assert recorder.said == ["the file has changed on the server: starting again"]


def test_a_file_that_changes_while_it_comes_is_fetched_anew(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.files["m"] = CONTENT[::-1]
    hub_server.rate = 2e6

    class Changes(Recorder):
        def progress(self, done: int, total: int | None) -> None:
            super().progress(done, total)
            if done > 300_000:
                hub_server.files["m"] = CONTENT

    recorder = Changes()
    wanted = FetchRequest(hub_server.cdn("m"), tmp_path / "m")
    asyncio.run(fetch(wanted, limits=QUICK, watcher=recorder))
    assert whole(tmp_path)
    assert recorder.done == sorted(recorder.done)
    assert "changed on the server meanwhile" in recorder.said[0]


def test_another_size_than_expected_is_an_error(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.files["m"] = CONTENT
    with pytest.raises(LlmstackError, match="expected 5 bytes, the server has 1000003"):
        asyncio.run(fetch(FetchRequest(hub_server.cdn("m"), tmp_path / "m", size=5), limits=QUICK))


def test_more_than_the_disk_holds_is_refused_before_it_begins(hub_server: Hub, tmp_path: Path) -> None:
    begun = Partial(tmp_path / "m", size=None, sha256=None)
    with pytest.raises(LlmstackError) as error:
        asyncio.run(_huge(hub_server, tmp_path))
    assert "GB free" in str(error.value)
    assert not begun.path.exists()


async def _huge(hub_server: Hub, tmp_path: Path) -> None:
    """Fetch from a server that announces 10 PB."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 206 OK\r\ncontent-length: 1\r\ncontent-range: bytes 0-0/10000000000000000\r\n\r\nx"
        )
        await writer.drain()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        await fetch(FetchRequest(f"http://127.0.0.1:{port}/m", tmp_path / "m"), limits=QUICK)


def child(hub_server: Hub, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """Fetch `m` in a process of its own."""
    argv = [sys.executable, str(CHILD), hub_server.cdn("m"), str(tmp_path / "m"), SHA256_LARGE, *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


LARGE = DICE.randbytes(32 * 1024 * 1024)
SHA256_LARGE = hashlib.sha256(LARGE).hexdigest()


def _sent(hub_server: Hub, count: int) -> bool:
    return hub_server.sent >= count


def test_killed_at_ten_random_points_it_costs_no_more_than_five_percent(
    hub_server: Hub, tmp_path: Path
) -> None:
    hub_server.files["m"] = LARGE
    hub_server.rate = (
        1.5e6  # for each of four connections: what is on its way is lost, and a busy machine lags
    )
    points = sorted(DICE.sample(range(len(LARGE)), 10))
    for point in points:
        process = child(hub_server, tmp_path)
        wait_until(partial(_sent, hub_server, point), timeout=20)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "m").exists()
    hub_server.rate = None
    last = child(hub_server, tmp_path)
    said, _ = last.communicate(timeout=30)
    assert last.returncode == 0, said
    assert (tmp_path / "m").read_bytes() == LARGE
    print(f"traffic {hub_server.sent / len(LARGE):.4f} of the size")
    assert hub_server.sent <= 1.05 * len(LARGE)


def test_a_full_disk_is_a_clear_error_and_the_next_run_goes_on(hub_server: Hub, tmp_path: Path) -> None:
    """No file can grow beyond 20 MB here, as on a disk that is full."""
    hub_server.files["m"] = LARGE
    process = child(hub_server, tmp_path, "--limit", str(20_000_000))
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert said.startswith(f"error: cannot write {tmp_path / 'm'}.part: File too large")
    assert not (tmp_path / "m").exists()
    kept = sum(end - start for start, end in json.loads((tmp_path / "m.part.json").read_text())["done"])
    assert kept > 0
    before = hub_server.sent
    again = child(hub_server, tmp_path)
    assert again.communicate(timeout=30)[0] == ""
    assert (tmp_path / "m").read_bytes() == LARGE
    assert hub_server.sent - before == len(LARGE) - kept + 1


def test_two_at_once_fetch_it_once(hub_server: Hub, tmp_path: Path) -> None:
    hub_server.files["m"] = LARGE
    hub_server.rate = 40e6
    both = [child(hub_server, tmp_path) for _ in range(2)]
    said = sorted(process.communicate(timeout=30)[0] for process in both)
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0] == ""
    assert said[1].startswith("waiting: another llmstack command is at work here: `download` (pid ")
    assert (tmp_path / "m").read_bytes() == LARGE
    assert hub_server.sent == len(LARGE) + 1


def test_spans_join() -> None:
    spans = Spans()
    for start, end in [(0, 10), (20, 30), (10, 15), (40, 50), (14, 41)]:
        spans.add(start, end)
    assert spans.done == [(0, 50)]
    assert spans.missing(120, 30) == [(50, 80), (80, 110), (110, 120)]
    assert Spans([(10, 20)]).missing(25, 100) == [(0, 10), (20, 25)]
