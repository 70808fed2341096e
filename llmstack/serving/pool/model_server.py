"""One model's server: started on a free port, waited for until healthy, stopped."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from llmstack.errors import LlmstackError
from llmstack.process.child import Child
from llmstack.process.ports import is_free
from llmstack.upstream.client import UpstreamError, ask

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.serving.kv.identity import KvPlace

_log = logging.getLogger(__name__)

HOST = "127.0.0.1"
PORTS = 200  # how far beyond the first port a free one is looked for
FIRST_PROBE_S, LAST_PROBE_S = 0.005, 0.25
PROBE_GROWTH = 1.05
PROBE_S = 5.0  # for one answer
REAP_S = 1.0
SHOWN_LINES = 6


class ModelServer(Protocol):
    """A server process of one model, for one start."""

    @property
    def url(self) -> str:
        """Its address."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What it wants with every request."""

    @property
    def pid(self) -> int | None:
        """Its process id once started."""

    @property
    def port(self) -> int | None:
        """The port it listens on once started."""

    @property
    def place(self) -> KvPlace | None:
        """Where it saves what its slots hold, once started; None where it does not."""

    async def start(self) -> None:
        """Start it and wait until it answers; LlmstackError with its last lines if it does not."""

    async def stop(self) -> None:
        """End it; nothing happens where it has ended or never started."""

    async def ended(self) -> None:
        """Wait until its process is gone."""

    async def failure(self) -> str | None:
        """Return why it ended, shortly after a connection to it broke; None while it runs."""

    async def explain(self, status: int, body: bytes) -> str | None:
        """Return why, where an answer with this status is not its own but of what stands before it."""


class Ports:
    """Hands out ports to model servers, each to one at a time.

    Args:
        first: the first port to try.
        reserved: ports of the stack itself.
    """

    def __init__(self, first: int, reserved: frozenset[int]) -> None:
        self._first = first
        self._taken: dict[int, object] = dict.fromkeys(reserved)

    def take(self, owner: object) -> int:
        """Return a free port, kept for `owner` until it gives it back.

        Raises:
            LlmstackError: none of the next 200 is free.
        """
        for port in range(self._first, min(self._first + PORTS, 65_536)):
            if port not in self._taken and is_free(HOST, port):
                self._taken[port] = owner
                return port
        raise LlmstackError(
            f"no free port from {self._first} to {min(self._first + PORTS, 65_536) - 1}",
            hint="set another `start_port` in [DEFAULT] of models.ini",
        )

    def give_back(self, owner: object) -> None:
        """Make what an owner took available again."""
        for port in [port for port, taker in self._taken.items() if taker is owner]:
            del self._taken[port]


class LlamaServer:
    """llama.cpp's server for one tier.

    Args:
        tier: the tier's name.
        flags: makes its flags for a port.
        engine: what runs it.
        env: its environment, with its key.
        ports: where its port comes from.
        pid_file: where its pid file goes; `log` its output.
        load_s: seconds it may take to load.
        kv: finds out where it saves what its slots hold; asked at the start, in a thread, as it reads the
            model's file.

    Attributes:
        place: the same once it was asked.
    """

    def __init__(
        self,
        tier: str,
        flags: Callable[[int], tuple[str, ...]],
        engine: EngineBinary,
        *,
        env: Mapping[str, str],
        ports: Ports,
        pid_file: Path,
        log: Path,
        load_s: float = 900.0,
        kv: Callable[[], KvPlace | None] = lambda: None,
    ) -> None:
        self._tier = tier
        self._flags = flags
        self._engine = engine
        self._env = env
        self._ports = ports
        self._pid_file = pid_file
        self._log = log
        self._load_s = load_s
        self._kv = kv
        self.place: KvPlace | None = None
        self._child: Child | None = None
        self._stopped = False
        self.port: int | None = None

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{HOST}:{self.port}"

    @property
    def headers(self) -> Mapping[str, str]:
        """Its key."""
        return {"authorization": f"Bearer {self._env['LLAMA_API_KEY']}"}

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._child.pid if self._child else None

    async def start(self) -> None:
        """Start it and wait until it answers."""
        try:
            self._refuse_if_stopped()
            saving = await self._saving()
            self._refuse_if_stopped()
            self.port = self._ports.take(self)
            self._child = await Child.spawn(
                self._engine.argv((*self._flags(self.port), *saving)),
                env=self._env,
                port=self.port,
                pid_file=self._pid_file,
                log=self._log,
            )
            self._refuse_if_stopped()
            try:
                async with asyncio.timeout(self._load_s):
                    await self._until_healthy(self._child)
            except TimeoutError:
                shown = _shown(self._child)
                raise LlmstackError(
                    f"{self._tier} was not ready within {self._load_s:g} s{shown}", hint=f"see {self._log}"
                ) from None
        except BaseException:
            await self.stop()
            raise

    async def _saving(self) -> tuple[str, ...]:
        """Return the flags for saving prompts; without them the model serves as well."""
        try:
            self.place = await asyncio.to_thread(self._kv)
        except (OSError, LlmstackError) as error:
            _log.warning("%s: its prompts cannot be saved: %s", self._tier, error)
        return ("--slot-save-path", str(self.place.directory)) if self.place else ()

    def _refuse_if_stopped(self) -> None:
        if self._stopped:
            raise LlmstackError(f"{self._tier} was stopped while it was starting")

    async def _until_healthy(self, child: Child) -> None:
        delay = FIRST_PROBE_S
        while True:
            healthy = await _answers(f"{self.url}/health")
            # Anyone who took the port in the meantime would look healthy, but not know our key.
            if healthy and await _answers(f"{self.url}/props", self.headers):
                return
            if child.exit_code is not None:
                raise LlmstackError(await self._last_words(child), hint=f"see {self._log}")
            await asyncio.sleep(delay)
            delay = min(delay * PROBE_GROWTH, LAST_PROBE_S)

    async def _last_words(self, child: Child) -> str:
        code = await child.wait()
        if self._stopped:
            return f"the model server of {self._tier} was stopped"
        how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
        return f"the model server of {self._tier} ended ({how}){_shown(child)}"

    async def stop(self) -> None:
        """End it."""
        self._stopped = True
        if self._child is not None:
            await self._child.stop()
        self._ports.give_back(self)

    async def ended(self) -> None:
        """Wait until its process is gone."""
        if self._child is not None:
            await self._child.wait()
        self._ports.give_back(self)

    async def failure(self) -> str | None:
        """Return why it ended; None while it runs."""
        if self._child is None:
            return None
        try:
            async with asyncio.timeout(REAP_S):
                await self._child.wait()
        except TimeoutError:
            return None
        return await self._last_words(self._child)

    async def explain(self, status: int, body: bytes) -> str | None:  # noqa: ARG002 - nothing stands before it
        """Return None: every answer is its own."""
        return None


def _shown(child: Child) -> str:
    lines = [line for line in child.tail if line.strip()]
    # llama.cpp logs from a thread: on a busy machine the reason comes before what was logged earlier.
    reason = [line for line in lines[:-SHOWN_LINES] if line.startswith("error: ")][-1:]
    return "".join(f"\n  {line}" for line in reason + lines[-SHOWN_LINES:])


async def _answers(url: str, headers: Mapping[str, str] | None = None) -> bool:
    try:
        async with asyncio.timeout(PROBE_S):
            status, _ = await ask("GET", url, headers)
    except (UpstreamError, TimeoutError):
        return False
    return status == 200  # noqa: PLR2004 - 503 while the model is loading
