"""Which socket listens on a TCP port of this machine, and whether it is a child's.

A child of this process is identified by its pid: nobody else can create a process with this one as its
parent, and the pid is not used again before this process has waited for the child.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import psutil

_TCP_TABLE = Path("/proc/net/tcp")
_LISTENING = "0A"  # TCP_LISTEN in include/net/tcp_states.h
_ADDRESS, _STATE, _INODE = 1, 3, 9  # fields of a line of /proc/net/tcp, proc_net_tcp.rst


def listener_of_child(child: int, host: str, port: int) -> object | None:
    """Return what identifies the socket on which a child listens; None if it does not.

    The child may listen itself, or a descendant of it.

    Reads the tables of the system, which takes from 0.3 ms (a known socket on Linux) to 40 ms.

    Args:
        child: the child's process id.
        host: an IPv4 address.
        port: the port.
    """
    if sys.platform != "linux":
        return _find_socket(child, host, port)
    inode = _listening_inode(host, port)
    return inode if inode is not None and _is_known(child, inode, host, port) else None


def _is_known(child: int, inode: str, host: str, port: int) -> bool:
    """Return whether a listening socket is a child's. That stays true for as long as the socket exists."""
    try:
        return _require_known(child, inode, host, port)
    except LookupError:
        return False  # not remembered: the child may only just have opened it


@lru_cache(maxsize=64)
def _require_known(child: int, inode: str, host: str, port: int) -> bool:
    found = _find_socket(child, host, port)
    if found != inode:
        raise LookupError(port)
    return True


def _listening_inode(host: str, port: int) -> str | None:
    """Return the inode of the socket that listens on a port (Linux); the kernel lists those sockets first."""
    address = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
    try:
        with _TCP_TABLE.open(encoding="ascii") as table:
            next(table)
            for line in table:
                fields = line.split()
                if fields[_STATE] != _LISTENING:
                    return None
                if fields[_ADDRESS] == address:
                    return fields[_INODE]
    except (OSError, StopIteration):
        pass
    return None


def _find_socket(child: int, host: str, port: int) -> object | None:
    """Return a listening socket of a child or its descendants: its inode (Linux), else process and number."""
    import psutil  # noqa: PLC0415 - slow to import, and only needed if a server listens on a port

    for process in _family(child):
        try:
            sockets = process.net_connections("tcp4")
        except psutil.Error:
            continue
        for one in sockets:
            if one.status == psutil.CONN_LISTEN and one.laddr == (host, port):
                return _inode(process.pid, one.fd) if sys.platform == "linux" else (process.pid, one.fd)
    return None


def _family(child: int) -> Iterator[psutil.Process]:
    """Yield a child of this process and all its descendants; nothing if it is no child of this process."""
    import psutil  # noqa: PLC0415 - as above

    try:
        process = psutil.Process(child)
        if process.ppid() == os.getpid():
            yield process
            yield from process.children(recursive=True)
    except psutil.Error:
        return


def _inode(pid: int, number: int) -> str | None:
    """Return the inode of a process's open socket (Linux)."""
    try:
        return str(Path(f"/proc/{pid}/fd/{number}").readlink()).removeprefix("socket:[").removesuffix("]")
    except OSError:
        return None
