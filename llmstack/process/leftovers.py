"""Find and stop processes that outlived the daemon that should have stopped them.

They are recognised by an id in their environment, which every process inherits from the daemon.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING

import psutil

from llmstack.process.identity import Identity
from llmstack.process.stopping import stop_tree

if TYPE_CHECKING:
    from pathlib import Path

INSTANCE_VARIABLE = "LLMSTACK_INSTANCE"


def instance_id(state: Path, daemon: str = "llama-swap") -> str:
    """Return the id that a daemon of this project and all its descendants have in their environment."""
    return hashlib.sha256(os.fsencode(state.resolve() / daemon)).hexdigest()[:24]


def find_instance(instance: str) -> list[Identity]:
    """Return this user's running processes that have this id in their environment, except this process."""
    identities = []
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error, OSError):
            if (
                process.pid != os.getpid()
                and _is_own(process)
                and process.environ().get(INSTANCE_VARIABLE) == instance
            ):
                identity = Identity.from_pid(process.pid)
                if identity is not None and identity.is_alive:
                    identities.append(identity)
    return identities


def _is_own(process: psutil.Process) -> bool:
    """Whether it belongs to this user."""
    return os.name == "nt" or process.uids().real == os.getuid()


def stop_instance(instance: str, *, grace_s: float) -> int:
    """Stop every process with this id; return how many there were."""
    identities = find_instance(instance)
    for identity in identities:
        stop_tree(identity, grace_s=grace_s)
    return len(identities)
