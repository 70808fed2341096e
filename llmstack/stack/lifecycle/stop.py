"""Stopping what a project started, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.files import exclusive, remove
from llmstack.process.identity import read_pid_file, running
from llmstack.process.leftovers import instance_of, stop_instance
from llmstack.process.stopping import stop_tree
from llmstack.stack.project import running_router

if TYPE_CHECKING:
    from llmstack.paths import Project
    from llmstack.process.identity import Daemon

STOP_GRACE_S = 45.0  # requests in flight get 8 s, prompts of gigabytes 30 to be saved, model servers 5 to end
LLAMA_SWAP = "llama-swap"
LITELLM = "litellm"
LITELLM_GRACE_S = 5.0  # as llama-swap's
LLAMA_SWAP_GRACE_S = 5.0  # its launcher gives it four


@dataclass(frozen=True, slots=True)
class Stopped:
    """What `down` did.

    Attributes:
        was_running: there was something to stop.
        killed: it did not end by itself in time.
        leftovers: model servers that had outlived their router and were stopped.
    """

    was_running: bool
    killed: bool = False
    leftovers: list[str] = field(default_factory=list)


def down(project: Project, *, timeout_s: float = STOP_GRACE_S) -> Stopped:
    """Stop what this project started, and nothing else. Interrupts a `start` in progress.

    Args:
        project: the project; nothing happens where nothing runs.
        timeout_s: seconds the router gets to end by itself before it is killed.
    """
    if not project.state.is_dir():
        return Stopped(was_running=False)
    with exclusive(project.lock, "stop"):
        daemon = running_router(project)
        if daemon is None:
            leftovers = stop_leftovers(project)
            _remove_notes(project)
            return Stopped(was_running=bool(leftovers), leftovers=leftovers)
        return take_down(project, daemon, timeout_s)


def take_down(project: Project, daemon: Daemon, timeout_s: float) -> Stopped:
    """Stop a running router and what it owns; the lock is held."""
    remove(project.active_channel)  # first: a `start` that waits for this router sees that it was stopped
    in_time = stop_tree(daemon.identity, grace_s=timeout_s)
    remove(project.router_pid)  # last: who interrupts this can ask for it again
    return Stopped(was_running=True, killed=not in_time, leftovers=stop_leftovers(project))


def forget(project: Project, daemon: Daemon) -> None:
    """Remove the notes of a router that has ended, unless another one has taken its place; lock held."""
    noted = read_pid_file(project.router_pid)
    if noted is not None and noted.identity == daemon.identity:
        _remove_notes(project)


def _remove_notes(project: Project) -> None:
    remove(project.router_pid)
    remove(project.active_channel)


def stop_leftovers(project: Project) -> list[str]:
    """Stop model servers, llama-swap and LiteLLM where their router is gone; return their names."""
    stopped = []
    llama_swap = running(project.pid_file(LLAMA_SWAP))
    if llama_swap is not None:
        stop_tree(llama_swap.identity, grace_s=LLAMA_SWAP_GRACE_S)
        stopped.append(LLAMA_SWAP)
    remove(project.pid_file(LLAMA_SWAP))
    # What a killed llama-swap left has no pid file of ours.
    if count := stop_instance(instance_of(project.state), grace_s=1.0):
        stopped.append(f"{count} of {LLAMA_SWAP}'s processes")
    # The pid is of its launcher, which is gone where the router was killed: what it ran is found by its id.
    if stop_instance(instance_of(project.state, LITELLM), grace_s=LITELLM_GRACE_S):
        stopped.append(LITELLM)
    remove(project.pid_file(LITELLM))
    for path in sorted(project.state.glob("model-*.pid")):
        daemon = running(path)
        if daemon is not None:
            stop_tree(daemon.identity, grace_s=1.0)
            stopped.append(path.stem.removeprefix("model-"))
        remove(path)
    return stopped
