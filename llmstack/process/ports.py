"""TCP ports of this machine: which are free, and which process listens on one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import psutil

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Collection

MAX_PORT = 65_535


def is_free(host: str, port: int) -> bool:
    """Return whether a server could listen on this port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do: a port in TIME_WAIT counts as free. On Windows the option would share the port.
        if hasattr(socket, "SO_REUSEPORT"):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def find_free_ports(host: str, first: int, count: int, reserved: Collection[int]) -> int:
    """Return the first of `count` consecutive ports that are free now and not reserved.

    Args:
        host: the address that servers will listen on.
        first: the lowest port to consider.
        count: how many ports are needed.
        reserved: ports that must not be among them.

    Raises:
        LlmstackError: there are not that many free ports in a row.
    """
    start = first
    for port in range(first, MAX_PORT + 1):
        if port - start >= count:
            return start
        if port in reserved or not is_free(host, port):
            start = port + 1
    raise LlmstackError(
        f"no {count} free ports in a row from {first} on",
        hint="set another `start_port` in [DEFAULT] of models.ini",
    )


def require_free_port(host: str, port: int, *, setting: str, server: str = "") -> None:
    """Check that a server can listen on a port.

    Args:
        host: the address that it will listen on.
        port: the port.
        setting: the key of models.ini that sets the port.
        server: what will listen, for the message; empty if that is the router.

    Raises:
        LlmstackError: the port is taken.
    """
    if not is_free(host, port):
        raise port_taken_error(port, setting=setting, server=server)


def port_taken_error(port: int, *, setting: str, server: str = "") -> LlmstackError:
    """Return the error for a taken port, which names the process that listens on it if that is known.

    Args:
        port: the port.
        setting: the key of models.ini that sets the port.
        server: what was to listen, for the message; empty if that is the router.
    """
    purpose = f" for {server}" if server else ""
    owner = port_owner(port)
    return LlmstackError(
        f"port {port}{purpose} is taken{f' by {owner}' if owner else ''}",
        hint=f"stop that program, or set another `{setting}` in models.ini",
    )


def port_owner(port: int) -> str | None:
    """Return `NAME (pid N)` of the process that listens on a port; None if there is none or it is unknown."""
    try:
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,)
            if listening and connection.pid is not None:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        return None  # macOS and Windows show other users' processes to administrators only
    return None
