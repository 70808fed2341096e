from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import uvloop
from support.waiting import wait_until, wait_until_async

from llmstack.errors import LlmstackError
from llmstack.process.child import Child
from llmstack.process.output_log import LOG_BACKUPS, LOG_BYTES, rotating_log

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

TALKER = r"""
import sys
sys.stdout.buffer.write(b"%s a\r\n\xff\n" + b"x" * 200_000 + b"\n" + b"end")
sys.exit(5)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=sorted(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    """Run a coroutine on the event loop of the standard library, and on the one that the router uses."""

    def runner(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            loop.run(work)

    return runner


async def spawn(tmp_path: Path, code: str, *argv: str) -> Child:
    return await Child.spawn(
        [sys.executable, "-c", code, *argv],
        env=os.environ,
        port=7,
        pid_file=tmp_path / "x.pid",
        log=tmp_path / "logs" / "x.log",
    )


def test_a_child_from_start_to_stop(tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    async def check() -> None:
        child = await spawn(
            tmp_path,
            "import sys; print('hello'); print('oops', file=sys.stderr); sys.stdin.read(); sys.exit(3)",
        )
        record = json.loads((tmp_path / "x.pid").read_text())
        assert (record["pid"], record["port"], record["argv"][0]) == (child.pid, 7, sys.executable)
        assert child.exit_code is None
        await wait_until_async(lambda: child.tail)
        waits = [asyncio.create_task(child.wait()) for _ in range(2)]
        await asyncio.sleep(0)
        waits.pop().cancel()  # a cancelled waiter does not disturb the others
        await child.stop()
        assert await waits[0] == await child.wait() == child.exit_code
        assert child.exit_code in {3, -signal.SIGTERM}
        assert not (tmp_path / "x.pid").exists()
        await child.stop()

    run(check())


def test_all_output_is_in_the_log_when_the_child_has_ended(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def check() -> None:
        child = await spawn(tmp_path, TALKER)
        assert await child.wait() == 5
        assert child.tail[:2] == ["%s a", "\ufffd"]
        assert "".join(child.tail[2:-1]) == "x" * 200_000
        assert child.tail[-1] == "end"
        assert (tmp_path / "logs" / "x.log").read_text().splitlines() == child.tail

    run(check())


def test_the_log_has_a_bounded_size(tmp_path: Path) -> None:
    async def check() -> None:
        child = await spawn(tmp_path, "print(('x' * 999 + '\\n') * 9000)")
        await child.wait()

    asyncio.run(check())
    sizes = [path.stat().st_size for path in (tmp_path / "logs").iterdir()]
    assert len(sizes) == LOG_BACKUPS + 1
    assert max(sizes) <= LOG_BYTES


def test_a_child_that_prints_too_much_does_not_stop_the_others(tmp_path: Path) -> None:
    """Of 39 million lines most are left out, but not the end, which says why it ended."""

    async def check() -> None:
        child = await spawn(
            tmp_path,
            "import os\nfor _ in range(1200): os.write(1, b'y\\n' * 32768)\nprint('the reason', end='')",
        )
        ended, longest_s, before = asyncio.create_task(child.wait()), 0.0, time.process_time()
        while not ended.done():
            await asyncio.sleep(0.001)
            longest_s, before = max(longest_s, time.process_time() - before), time.process_time()
        assert longest_s < 0.1, "of CPU time between two turns of the event loop"
        assert child.tail[-1] == "the reason"

    asyncio.run(check())
    log = "".join(path.read_text() for path in (tmp_path / "logs").iterdir())
    assert len(log) <= (LOG_BACKUPS + 1) * LOG_BYTES
    assert "bytes are left out here" in log


def test_a_child_that_ignores_sigterm_is_killed(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def check() -> None:
        child = await spawn(tmp_path, STUBBORN)
        await wait_until_async(lambda: child.tail)
        await asyncio.gather(child.stop(grace_s=0.1), child.stop(grace_s=0.2))
        assert child.exit_code == -signal.SIGKILL

    run(check())


LEADER = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session={apart})
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_the_group_of_a_killed_child_is_killed(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    """As when a launcher is killed and its server, which holds the output open, still runs."""

    async def check() -> None:
        child = await spawn(tmp_path, LEADER.format(apart=False))
        await wait_until_async(lambda: child.tail)
        os.kill(child.pid, signal.SIGKILL)
        async with asyncio.timeout(3):
            assert await child.wait() == -signal.SIGKILL
        server = int(child.tail[0])
        await wait_until_async(
            lambda: not psutil.pid_exists(server) or psutil.Process(server).status() == psutil.STATUS_ZOMBIE
        )

    run(check())


def test_a_process_outside_the_group_does_not_keep_the_child_open(
    tmp_path: Path, run: Callable[[Coroutine[Any, Any, None]], None]
) -> None:
    async def check() -> None:
        child = await spawn(tmp_path, LEADER.format(apart=True))
        await wait_until_async(lambda: child.tail)
        os.kill(child.pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(5):
                await child.wait()
        finally:
            os.kill(int(child.tail[0]), signal.SIGKILL)

    run(check())


async def test_a_program_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LlmstackError, match=r"cannot start /no/such: No such file"):
        await Child.spawn(["/no/such"], env={}, port=1, pid_file=tmp_path / "x.pid", log=tmp_path / "x.log")
    assert not (tmp_path / "x.pid").exists()


async def test_a_log_or_pid_file_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for pid_file, log in (("x.pid", "file/x.log"), ("file/x.pid", "x.log")):
        with pytest.raises(LlmstackError, match=r"cannot write .*file"):
            await Child.spawn(
                [sys.executable, "-c", "import time; time.sleep(60)"],
                env=os.environ,
                port=1,
                pid_file=tmp_path / pid_file,
                log=tmp_path / log,
            )


SMALL_DISK = """
import asyncio, pathlib, resource, signal, sys
from llmstack.process.child import Child
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def main():
    here = pathlib.Path(sys.argv[1])
    talk = "print(('x' * 99 + chr(10)) * 900)"
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
    argv, log = [sys.executable, "-c", talk], here / "x.log"
    child = await Child.spawn(argv, env={}, port=1, pid_file=here / "x.pid", log=log)
    print(await child.wait(), len(child.tail))

asyncio.run(main())
"""


async def test_a_full_disk_stops_only_the_log(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        SMALL_DISK,
        str(tmp_path),
        # A coverage measurement would write more than the small disk can hold.
        env={name: value for name, value in os.environ.items() if not name.startswith("COV")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out, err) == (b"0 40\n", b"")
    assert (tmp_path / "x.log").stat().st_size <= 10_000


PARENT = """
import asyncio, os, pathlib, sys
from llmstack.process.child import Child

async def main():
    here = pathlib.Path(sys.argv[1])
    child = await Child.spawn([sys.executable, "-c", "import sys; sys.stdin.read()"], env=os.environ, port=1,
        pid_file=here / "x.pid", log=here / "x.log")
    print(child.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_a_child_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()
    wait_until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, timeout=2)


@pytest.mark.skipif(os.name == "nt", reason="no such permissions there")
def test_no_log_can_be_read_by_others_nor_can_older_ones(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    names = ("x.log", "x.log.1", "x.log.2")
    for name in names:
        (tmp_path / name).touch(0o644)
    handler = rotating_log(log)
    try:
        assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o600}
        for name in names:
            (tmp_path / name).unlink()
        handler.doRollover()
        handler.emit(logging.makeLogRecord({"msg": "a line"}))
        handler.doRollover()
        assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    finally:
        handler.close()
