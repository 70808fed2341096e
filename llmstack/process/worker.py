"""A process for work on large bodies, which would hold up the event loop and take memory in this one.

A thread would not do: decoding a body is one call, during which no other thread runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import pickle
import struct
import sys
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from llmstack.units import GB, MB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

# What may be worked on here, without the worker.
MAX_BYTES_HERE = MB  # of any body: 1 MB takes 80 ms if it holds 30 000 tiny messages
MAX_SIMPLE_BYTES_HERE = 2 * MB  # of a body with few objects, as agents send them: a few ms
MAX_OBJECTS_HERE = 10_000
TIMEOUT_S = 10.0  # 64 MB in one message take 0.2 s, in 2 million messages about 5 s
MAX_MEMORY_BYTES = GB  # of the worker; 64 MB in one message take about 200 MB
_SIZES = struct.Struct("!QQ")  # of the call and of the body; in a response, kind and size of the result
_BYTES, _VALUE, _ERROR = range(3)  # kinds of results; bytes are not pickled


class WorkerFailedError(Exception):
    """The work took too long or too much memory, or the worker was killed."""


def is_large(body: bytes) -> bool:
    """Return whether work on a JSON body would hold up the event loop for long, and belongs in the worker."""
    if len(body) <= MAX_BYTES_HERE:
        return False
    return len(body) > MAX_SIMPLE_BYTES_HERE or body.count(b"{") > MAX_OBJECTS_HERE


class Worker:
    """Calls functions in a process of its own, one at a time. The process is started with the first call.

    Args:
        env: environment of the process.
    """

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        """Whether it calls a function now."""
        return self._lock.locked()

    async def run(self, function: Callable[[bytes], T], body: bytes) -> T:
        """Return `function(body)`, or raise what it raises.

        Args:
            function: can be pickled: a function of a module's top level, or a `partial` of one.
            body: its argument.

        Raises:
            WorkerFailedError: it took too long or too much memory.
        """
        call = pickle.dumps(function)
        async with self._lock:
            try:
                async with asyncio.timeout(TIMEOUT_S):
                    kind, data = await self._exchange(call, body)
            except BaseException as error:
                await self._end()  # it may be in the middle of something
                if isinstance(error, TimeoutError | OSError | EOFError):
                    raise WorkerFailedError from error
                raise
        result: Any = data if kind == _BYTES else pickle.loads(data)  # noqa: S301 - of our own process
        if isinstance(result, MemoryError):
            raise WorkerFailedError from result
        if kind == _ERROR:
            raise result
        value: T = result
        return value

    async def _exchange(self, call: bytes, body: bytes) -> tuple[int, bytes]:
        if self._process is None or self._process.returncode is not None:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "llmstack.process.worker"),
                env=dict(self._env),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=os.name != "nt",
            )
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise EOFError
        stdin.write(_SIZES.pack(len(call), len(body)))
        stdin.write(call)
        stdin.write(body)
        kind, size = _SIZES.unpack(await stdout.readexactly(_SIZES.size))
        data = io.BytesIO()  # returns its content without a copy, which would hold up the event loop
        while data.tell() < size:
            part = await stdout.read(size - data.tell())
            if not part:
                raise EOFError
            data.write(part)
        return kind, data.getvalue()

    async def close(self) -> None:
        """End the process."""
        async with self._lock:
            await self._end()

    async def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def main() -> None:
    """Serve calls until standard input is closed, as it is when the parent ends."""
    _limit_memory()
    calls, results = sys.stdin.buffer, sys.stdout.buffer
    while len(sizes := calls.read(_SIZES.size)) == _SIZES.size:
        kind, result = _call(calls, *_SIZES.unpack(sizes))
        data = result if kind == _BYTES else pickle.dumps(result)
        results.write(_SIZES.pack(kind, len(data)))
        results.write(data)
        results.flush()


def _call(calls: BinaryIO, call_size: int, body_size: int) -> tuple[int, Any]:
    """Return kind and result of the next call."""
    function = pickle.loads(calls.read(call_size))  # noqa: S301 - from the parent
    body = calls.read(body_size)
    try:
        result = function(body)
    except Exception as error:  # noqa: BLE001 - the caller gets it
        return _ERROR, error
    return (_BYTES if isinstance(result, bytes) else _VALUE), result


def _limit_memory() -> None:
    if sys.platform == "win32":
        return  # it has no such limit
    import resource  # noqa: PLC0415 - not there on Windows

    resource.setrlimit(resource.RLIMIT_DATA, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


if __name__ == "__main__":
    main()
