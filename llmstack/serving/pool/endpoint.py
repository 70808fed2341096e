"""Where a model server listens: on a Unix socket, or on a TCP port if there is no other way.

A port can be taken by another user of the machine before the server has it, or after it has ended. A request
is therefore sent to a port only if the server itself listens there (`http+child`). A Unix socket in a
directory that only this user can enter cannot be taken. They are not used on Windows, and llama-server has
them since April 2025.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import supports_unix_sockets
from llmstack.process.ports import is_free
from llmstack.process.socket_directory import SocketDirectory
from llmstack.upstream.address import child_url, unix_socket_url

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.llama_cpp.binary import EngineBinary

HOST = "127.0.0.1"
MAX_PORTS = 200  # from the first port on, in which a free one is searched

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one model server listens.

    Attributes:
        socket: path of its Unix socket; None if it listens on a TCP port.
        port: its TCP port; None if it listens on a Unix socket.
    """

    socket: Path | None = None
    port: int | None = None

    @property
    def flags(self) -> tuple[str, ...]:
        """The flags of llama-server for it."""
        if self.socket is not None:
            return ("--host", str(self.socket))
        return ("--host", HOST, "--port", str(self.port))

    def url(self, pid: int) -> str:
        """Return the address of the server, given the process id of its launcher."""
        return child_url(pid, HOST, self.port or 0) if self.socket is None else unix_socket_url(self.socket)


class Endpoints:
    """Gives each model server a place of its own to listen.

    Args:
        first_port: the first port to try, for a server that needs one.
        reserved: ports of the stack itself.
        sockets: provides the paths of Unix sockets; by default in a directory of its own.
    """

    def __init__(
        self, first_port: int, reserved: frozenset[int], sockets: SocketDirectory | None = None
    ) -> None:
        self._first_port = first_port
        self._sockets = SocketDirectory() if sockets is None else sockets
        self._owners: dict[int, object] = dict.fromkeys(reserved)
        self._socket_support: dict[tuple[Path, int], bool] = {}

    async def acquire(self, owner: object, engine: EngineBinary, env: Mapping[str, str]) -> Endpoint:
        """Return where a server is to listen; a port is reserved for `owner` until it is released.

        Args:
            owner: the server.
            engine: its program.
            env: environment of the program.

        Raises:
            LlmstackError: it needs a port, and none of the next 200 is free.
        """
        if await self._can_use_socket(engine, env) and (path := self._sockets.new_path()) is not None:
            return Endpoint(socket=path)
        return Endpoint(port=self.acquire_port(owner))

    async def _can_use_socket(self, engine: EngineBinary, env: Mapping[str, str]) -> bool:
        """Return whether an engine can listen on a Unix socket; it is asked once, until it is replaced."""
        version = engine.path, engine.path.stat().st_mtime_ns if engine.path.exists() else 0
        if version not in self._socket_support:
            supported = await supports_unix_sockets(engine, env)
            self._socket_support[version] = supported
            if not supported:
                _log.info("%s does not support Unix sockets: its servers get TCP ports", engine.path)
        return self._socket_support[version]

    def acquire_port(self, owner: object) -> int:
        """Return a free port, reserved for `owner` until it is released.

        Raises:
            LlmstackError: none of the next 200 is free.
        """
        last = min(self._first_port + MAX_PORTS, 65_536) - 1
        for port in range(self._first_port, last + 1):
            if port not in self._owners and is_free(HOST, port):
                self._owners[port] = owner
                return port
        raise LlmstackError(
            f"no free port from {self._first_port} to {last}",
            hint="set another `start_port` in [DEFAULT] of models.ini",
        )

    def release(self, owner: object, endpoint: Endpoint | None) -> None:
        """Release what a server has acquired, after its end."""
        for port in [port for port, holder in self._owners.items() if holder is owner]:
            del self._owners[port]
        if endpoint is not None and endpoint.socket is not None:
            endpoint.socket.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove the directory of the sockets."""
        self._sockets.close()
