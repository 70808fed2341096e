"""What outlived the process that should have ended it: found by an id in its environment."""

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

INSTANCE = "LLMSTACK_INSTANCE"


def instance_of(state: Path, daemon: str = "llama-swap") -> str:
    """Return the id that everything below one of this project's daemons has in its environment."""
    return hashlib.sha256(os.fsencode(state.resolve() / daemon)).hexdigest()[:24]


def of_instance(instance: str) -> list[Identity]:
    """Return this user's running processes with that id."""
    found = []
    for process in psutil.process_iter(["pid"]):
        with contextlib.suppress(psutil.Error, OSError):
            if (
                process.pid != os.getpid()
                and _is_ours(process)
                and process.environ().get(INSTANCE) == instance
            ):
                identity = Identity.of(process.pid)
                if identity is not None and identity.alive:
                    found.append(identity)
    return found


def _is_ours(process: psutil.Process) -> bool:
    return os.name == "nt" or process.uids().real == os.getuid()


def stop_instance(instance: str, *, grace_s: float) -> int:
    """Stop every process with that id; return how many there were."""
    found = of_instance(instance)
    for identity in found:
        stop_tree(identity, grace_s=grace_s)
    return len(found)
