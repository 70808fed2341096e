"""The router when the process has no file descriptors left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from router.clients import chat_request, request, well_behaved
from router.harness import FakeSwapper, stack

from llmstack.serving.errors import is_out_of_files

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it has no such limit")


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    import resource  # noqa: PLC0415 - not there on Windows

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(entry.name) for entry in Path("/dev/fd").iterdir())
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.open(os.devnull, os.O_RDONLY))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in taken:
            os.close(descriptor)


async def test_a_request_is_refused_and_no_tier_is_blamed() -> None:
    async with stack(well_behaved) as (running, server):
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        body = json.dumps(chat_request()).encode()
        head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: "
        with no_files_left():
            writer.write(f"{head}{len(body)}\r\n\r\n".encode() + body)
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in answer
        assert b"too_many_open_files" in await reader.read(1000)
        writer.close()
        await running.wait_until_idle()
        assert running.app.service.cooldowns.cooling() == {}
        assert server.requests == []
        assert (await request(running, "POST", "/v1/chat/completions", chat_request())).status == 200


class SwapperWithoutFiles(FakeSwapper):
    def loaded_tiers(self) -> frozenset[str]:
        raise RuntimeError from OSError(errno.EMFILE, "Too many open files")


async def test_what_no_code_expects_is_refused_too_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with stack(well_behaved, swapper=SwapperWithoutFiles()) as (running, _):
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                reply = await request(running, "POST", "/v1/chat/completions", chat_request())
                assert (reply.status, reply.error["code"]) == (503, "too_many_open_files")
        assert [record.exc_info for record in caplog.records] == [None]


def test_only_a_lack_of_files_counts() -> None:
    assert is_out_of_files(OSError(errno.ENFILE, ""))
    assert not is_out_of_files(OSError(errno.ENOENT, ""))
    assert not is_out_of_files(None)


@pytest.mark.parametrize(("files", "connections"), [(300, 86), (1024, 448), (16_384, 4096)])
def test_no_more_connections_are_accepted_than_files_can_be_opened(files: int, connections: int) -> None:
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2)\n"
        "from llmstack.router.__main__ import allow_open_files; print(allow_open_files().connections)"
    )
    argv = [sys.executable, "-c", code, str(files)]
    assert int(subprocess.run(argv, check=True, capture_output=True).stdout) == connections
