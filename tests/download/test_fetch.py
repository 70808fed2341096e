"""Downloads from a server that fails: the right bytes or a clear error, and never an incomplete file."""

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
from support.hostile_hub import running_hostile_hub
from support.hub import Fault
from support.waiting import wait_until

from llmstack.download.fetch import fetch
from llmstack.download.partial_file import ByteRanges, PartialFile
from llmstack.download.request import FetchListener, FetchRequest
from llmstack.download.retry import FetchLimits
from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from support.hub import FakeHub

DICE = random.Random(1)  # noqa: S311 - the same bytes in every run
CONTENT = DICE.randbytes(1_000_003)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
QUICK = FetchLimits(connections=4, chunk_bytes=150_000, stall_s=0.5, tries=4, backoff_s=0.01)
CHILD = Path(__file__).with_name("fetch_child.py")


class RecordingListener(FetchListener):
    def __init__(self) -> None:
        self.progress: list[int] = []
        self.messages: list[str] = []

    def on_progress(self, done_bytes: int, total_bytes: int | None) -> None:  # noqa: ARG002
        self.progress.append(done_bytes)

    def notify(self, text: str) -> None:
        self.messages.append(text)


def download(
    hub_server: FakeHub, tmp_path: Path, *, limits: FetchLimits = QUICK, sha256: str | None = SHA256
) -> RecordingListener:
    """Download the file `m`, and check that the progress never decreases."""
    hub_server.files.setdefault("m", CONTENT)
    listener = RecordingListener()
    request = FetchRequest(hub_server.cdn_url("m"), tmp_path / "m", sha256=sha256)
    try:
        asyncio.run(fetch(request, limits=limits, listener=listener))
    finally:
        assert listener.progress == sorted(listener.progress)
    return listener


def is_complete(tmp_path: Path) -> bool:
    """Whether the file is right, with nothing but its lock next to it."""
    others = {path.name for path in tmp_path.iterdir()} - {"m", "m.lock"}
    return (tmp_path / "m").read_bytes() == CONTENT and not others


def test_a_file_is_assembled_from_parallel_ranges(hub_server: FakeHub, tmp_path: Path) -> None:
    listener = download(hub_server, tmp_path)
    assert is_complete(tmp_path)
    assert listener.progress[-1] == len(CONTENT)
    ranges = [headers["range"] for headers in hub_server.request_headers("cdn")]
    assert len(ranges) == len(set(ranges)) == 8  # the first request for the size, and 7 chunks
    assert hub_server.sent_bytes == len(CONTENT) + 1


def test_an_existing_file_is_not_downloaded_again(hub_server: FakeHub, tmp_path: Path) -> None:
    download(hub_server, tmp_path)
    count = len(hub_server.request_log)
    download(hub_server, tmp_path)
    assert len(hub_server.request_log) == count


FAULTS = {
    "cut": [Fault(cut_after=at) for at in (0, 1, 99_999, 149_999)],
    "cut often": [Fault(cut_after=DICE.randrange(1, 150_000)) for _ in range(30)],
    "stall": [Fault(stall_after=50_000)],
    "429": [Fault(status=429)],
    "503 with Retry-After": [Fault(status=503, retry_after="0.3")],
    "502 on every connection": [Fault(status=502)] * 4,
}


@pytest.mark.parametrize("faults", FAULTS.values(), ids=FAULTS)
def test_a_transient_failure_is_retried(hub_server: FakeHub, tmp_path: Path, faults: list[Fault]) -> None:
    hub_server.faults.extend(faults)
    started = time.monotonic()
    listener = download(hub_server, tmp_path)
    assert is_complete(tmp_path)
    assert listener.messages
    assert all("; trying again in " in text for text in listener.messages)
    if faults[0].retry_after:
        assert time.monotonic() - started >= 0.3
    assert hub_server.sent_bytes <= len(CONTENT) * 1.01


@pytest.mark.parametrize(
    "fault", [Fault(cut_after=0), Fault(status=503), Fault(stall_after=0)], ids=["cut", "503", "stall"]
)
def test_a_lasting_failure_is_a_clear_error_and_the_next_run_resumes(
    hub_server: FakeHub, tmp_path: Path, fault: Fault
) -> None:
    hub_server.faults.extend([Fault(), *[fault] * 40])
    with pytest.raises(LlmstackError) as error:
        download(hub_server, tmp_path, limits=FetchLimits(1, 150_000, stall_s=0.1, tries=3, backoff_s=0.01))
    assert "(3 tries)" in str(error.value)
    assert "downloaded bytes are kept" in str(error.value.hint)
    assert not (tmp_path / "m").exists()
    hub_server.faults.clear()
    before = hub_server.sent_bytes
    download(hub_server, tmp_path)
    assert is_complete(tmp_path)
    assert hub_server.sent_bytes - before <= len(CONTENT) - 150_000 + 1


def test_a_server_that_asks_for_too_long_a_wait_is_an_error(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.faults.extend([Fault(status=429, retry_after="86400")] * 4)
    with pytest.raises(LlmstackError, match="asks to wait 1440 min"):
        download(hub_server, tmp_path)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_refusal_is_not_retried(hub_server: FakeHub, tmp_path: Path, status: int) -> None:
    hub_server.faults.extend([Fault(status=status)] * 4)
    with pytest.raises(LlmstackError, match=f"m: localhost answered {status}"):
        download(hub_server, tmp_path)
    assert not (tmp_path / "m").exists()


def test_without_range_support_the_whole_file_is_downloaded_at_once(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    hub_server.supports_ranges = False
    hub_server.faults.extend([Fault(cut_after=300_000), Fault(cut_after=600_000)])
    download(hub_server, tmp_path)
    assert is_complete(tmp_path)


def test_without_ranges_and_length_the_end_of_the_stream_is_the_end_of_the_file(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    hub_server.supports_ranges = hub_server.sends_length = False
    download(hub_server, tmp_path)
    assert is_complete(tmp_path)


def test_an_empty_file_is_created(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.files["m"] = b""
    download(hub_server, tmp_path, sha256=None)
    assert (tmp_path / "m").read_bytes() == b""


def test_a_wrong_checksum_leaves_no_file(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.corrupts_content = True
    with pytest.raises(LlmstackError) as error:
        download(hub_server, tmp_path)
    assert str(error.value) == f"m: the SHA-256 of the downloaded file is not {SHA256}"
    assert {path.name for path in tmp_path.iterdir()} == {"m.lock"}


def test_a_resumed_download_with_a_wrong_checksum_starts_again_once(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    partial_file = PartialFile(tmp_path / "m", size=None, sha256=SHA256)
    partial_file.write(0, b"\0" * 500_000)  # as after a power failure
    partial_file.set_version(size=len(CONTENT), etag=f'"{hashlib.md5(CONTENT).hexdigest()}"')  # noqa: S324
    partial_file.close()
    listener = download(hub_server, tmp_path)
    assert is_complete(tmp_path)
    assert listener.messages == ["the resumed download has the wrong checksum: starting again"]


def test_a_file_that_changed_between_two_runs_is_downloaded_again(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    hub_server.files["m"] = CONTENT[::-1]
    hub_server.faults.extend([Fault(), *[Fault(cut_after=0)] * 20])
    with pytest.raises(LlmstackError):
        download(hub_server, tmp_path, sha256=None)
    hub_server.faults.clear()
    hub_server.files["m"] = CONTENT
    listener = download(hub_server, tmp_path, sha256=None)
    assert is_complete(tmp_path)
    assert listener.messages == ["the file has changed on the server: starting again"]


def test_a_file_that_changes_during_the_download_is_downloaded_again(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    hub_server.files["m"] = CONTENT[::-1]
    hub_server.bytes_per_s = 2e6

    class ChangeFileAfterStart(RecordingListener):
        def on_progress(self, done_bytes: int, total_bytes: int | None) -> None:
            super().on_progress(done_bytes, total_bytes)
            if done_bytes > 300_000:
                hub_server.files["m"] = CONTENT

    listener = ChangeFileAfterStart()
    request = FetchRequest(hub_server.cdn_url("m"), tmp_path / "m")
    asyncio.run(fetch(request, limits=QUICK, listener=listener))
    assert is_complete(tmp_path)
    assert listener.progress == sorted(listener.progress)
    assert "changed on the server during the download" in listener.messages[0]


def test_an_unexpected_size_is_an_error(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.files["m"] = CONTENT
    with pytest.raises(LlmstackError, match="expected 5 bytes, the server has 1000003"):
        asyncio.run(fetch(FetchRequest(hub_server.cdn_url("m"), tmp_path / "m", size=5), limits=QUICK))


def test_a_file_larger_than_the_free_disk_space_is_refused_at_once(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    partial_file = PartialFile(tmp_path / "m", size=None, sha256=None)
    with pytest.raises(LlmstackError) as error:
        asyncio.run(_fetch_huge_file(tmp_path))
    assert "GB free" in str(error.value)
    assert not partial_file.path.exists()


async def _fetch_huge_file(tmp_path: Path) -> None:
    """Fetch from a server that announces 10 PB."""

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 206 OK\r\ncontent-length: 1\r\ncontent-range: bytes 0-0/10000000000000000\r\n\r\nx"
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(respond, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await fetch(FetchRequest(f"http://127.0.0.1:{port}/m", tmp_path / "m"), limits=QUICK)


def start_child(hub_server: FakeHub, tmp_path: Path, *options: str) -> subprocess.Popen[str]:
    """Start a process that downloads `m`."""
    argv = [sys.executable, str(CHILD), hub_server.cdn_url("m"), str(tmp_path / "m"), SHA256_LARGE, *options]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


LARGE = DICE.randbytes(32 * 1024 * 1024)
SHA256_LARGE = hashlib.sha256(LARGE).hexdigest()


def _has_sent(hub_server: FakeHub, count: int) -> bool:
    return hub_server.sent_bytes >= count


def test_ten_kills_at_random_points_cost_at_most_five_percent_of_traffic(
    hub_server: FakeHub, tmp_path: Path
) -> None:
    hub_server.files["m"] = LARGE
    hub_server.bytes_per_s = (
        1.5e6  # slow enough that little is in flight when the process is killed, even on a busy machine
    )
    points = sorted(DICE.sample(range(len(LARGE)), 10))
    for point in points:
        process = start_child(hub_server, tmp_path)
        wait_until(partial(_has_sent, hub_server, point), timeout=20)
        assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (tmp_path / "m").exists()
    hub_server.bytes_per_s = None
    last = start_child(hub_server, tmp_path)
    output, _ = last.communicate(timeout=30)
    assert last.returncode == 0, output
    assert (tmp_path / "m").read_bytes() == LARGE
    print(f"traffic {hub_server.sent_bytes / len(LARGE):.4f} of the size")
    assert hub_server.sent_bytes <= 1.05 * len(LARGE)


def test_a_full_disk_is_a_clear_error_and_the_next_run_resumes(hub_server: FakeHub, tmp_path: Path) -> None:
    """A limit of 20 MB for each file stands for a full disk."""
    hub_server.files["m"] = LARGE
    process = start_child(hub_server, tmp_path, "--limit", str(20_000_000))
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert output.startswith(f"error: cannot write {tmp_path / 'm'}.part: File too large")
    assert not (tmp_path / "m").exists()
    saved_bytes = sum(
        end - start for start, end in json.loads((tmp_path / "m.part.json").read_text())["done"]
    )
    assert saved_bytes > 0
    before = hub_server.sent_bytes
    again = start_child(hub_server, tmp_path)
    assert again.communicate(timeout=30)[0] == ""
    assert (tmp_path / "m").read_bytes() == LARGE
    assert hub_server.sent_bytes - before == len(LARGE) - saved_bytes + 1


def test_two_processes_download_a_file_only_once(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.files["m"] = LARGE
    hub_server.bytes_per_s = 40e6
    processes = [start_child(hub_server, tmp_path) for _ in range(2)]
    outputs = sorted(process.communicate(timeout=30)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], outputs
    assert outputs[0] == ""
    assert outputs[1].startswith("waiting: another llmstack command is at work here: `download` (pid ")
    assert (tmp_path / "m").read_bytes() == LARGE
    assert hub_server.sent_bytes == len(LARGE) + 1


def test_touching_ranges_are_merged() -> None:
    ranges = ByteRanges()
    for start, end in [(0, 10), (20, 30), (10, 15), (40, 50), (14, 41)]:
        ranges.add(start, end)
    assert ranges.ranges == [(0, 50)]
    assert ranges.missing(120, 30) == [(50, 80), (80, 110), (110, 120)]
    assert ByteRanges([(10, 20)]).missing(25, 100) == [(0, 10), (20, 25)]


@pytest.mark.parametrize("sends_length", [True, False])
@pytest.mark.parametrize("limit", ["size", "max_bytes"])
def test_a_file_larger_than_expected_is_given_up(
    hub_server: FakeHub, tmp_path: Path, limit: str, *, sends_length: bool
) -> None:
    hub_server.files["m"] = bytes(20_000_000)
    hub_server.supports_ranges, hub_server.sends_length = False, sends_length
    request = FetchRequest(hub_server.cdn_url("m"), tmp_path / "m", **{limit: 1_000_000})  # type: ignore[arg-type]
    with pytest.raises(LlmstackError, match=r"m: expected (at most )?1000000 bytes, the server"):
        asyncio.run(fetch(request, limits=QUICK))
    assert hub_server.sent_bytes < 10_000_000  # with what the system has buffered
    assert not (tmp_path / "m").exists()


def test_bytes_after_the_end_of_a_range_are_not_read(hub_server: FakeHub, tmp_path: Path) -> None:
    hub_server.excess = bytes(20_000_000)
    download(hub_server, tmp_path, limits=FetchLimits(connections=1, tries=2))
    assert is_complete(tmp_path)
    assert hub_server.sent_bytes < 10_000_000


def test_the_body_of_a_redirect_is_not_read(tmp_path: Path) -> None:
    with running_hostile_hub("a redirect with an endless body") as hub:
        request = FetchRequest(f"{hub.url}/m", tmp_path / "m")
        with pytest.raises(LlmstackError, match="m: more than 10 redirects"):
            asyncio.run(fetch(request, limits=QUICK))
        assert hub.sent_bytes < 100_000_000  # what the system has buffered for 11 connections
