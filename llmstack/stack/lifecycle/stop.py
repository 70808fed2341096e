"""Stop what a project started, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.files import exclusive_lock, remove
from llmstack.process.identity import read_pid_file, running_daemon
from llmstack.process.leftovers import instance_id, stop_instance
from llmstack.process.stopping import stop_tree
from llmstack.stack.project import running_router

if TYPE_CHECKING:
    from llmstack.paths import Project
    from llmstack.process.identity import Daemon

# Requests in flight get 8 s, saving gigabytes of prompts 30 s, model servers 5 s to end.
STOP_GRACE_S = 45.0
LLAMA_SWAP = "llama-swap"
LLAMA_SWAP_GRACE_S = 5.0  # its launcher gives it four
LITELLM = "litellm"
LITELLM_GRACE_S = 5.0
MODEL_GRACE_S = 1.0  # of a model server without a router: it has nothing left to finish


@dataclass(frozen=True, slots=True)
class StopResult:
    """What `stop_stack` did.

    Attributes:
        was_running: there was something to stop.
        killed: the router did not end by itself in time.
        leftovers: names of model servers that had outlived their router and were stopped.
    """

    was_running: bool
    killed: bool = False
    leftovers: list[str] = field(default_factory=list)


def stop_stack(project: Project, *, timeout_s: float = STOP_GRACE_S) -> StopResult:
    """Stop everything this project started; interrupt a `start` in progress. Does nothing if nothing runs.

    Args:
        project: the project.
        timeout_s: seconds the router gets to end by itself before it is killed.
    """
    if not project.state.is_dir():
        return StopResult(was_running=False)
    with exclusive_lock(project.lock, "stop"):
        daemon = running_router(project)
        if daemon is None:
            leftovers = stop_leftovers(project)
            _remove_state_files(project)
            return StopResult(was_running=bool(leftovers), leftovers=leftovers)
        return stop_router(project, daemon, timeout_s)


def stop_router(project: Project, daemon: Daemon, timeout_s: float) -> StopResult:
    """Stop a running router and every process it owns. Needs the project's lock."""
    remove(project.active_channel)  # first: a `start` that waits for this router sees that it was stopped
    ended_in_time = stop_tree(daemon.identity, grace_s=timeout_s)
    remove(project.router_pid)  # last: `stop` can be repeated if this one is interrupted
    return StopResult(was_running=True, killed=not ended_in_time, leftovers=stop_leftovers(project))


def remove_state_of(project: Project, daemon: Daemon) -> None:
    """Remove the state files of a router that ended, unless another router replaced it.

    Needs the project's lock.
    """
    current = read_pid_file(project.router_pid)
    if current is not None and current.identity == daemon.identity:
        _remove_state_files(project)


def _remove_state_files(project: Project) -> None:
    remove(project.router_pid)
    remove(project.active_channel)


def stop_leftovers(project: Project) -> list[str]:
    """Stop model servers, llama-swap and LiteLLM whose router is gone; return their names."""
    stopped = []
    llama_swap = running_daemon(project.pid_file(LLAMA_SWAP))
    if llama_swap is not None:
        stop_tree(llama_swap.identity, grace_s=LLAMA_SWAP_GRACE_S)
        stopped.append(LLAMA_SWAP)
    remove(project.pid_file(LLAMA_SWAP))
    # Models of a llama-swap that was killed have no pid file: they are recognised by the instance id.
    if count := stop_instance(instance_id(project.state), grace_s=MODEL_GRACE_S):
        stopped.append(f"{count} of {LLAMA_SWAP}'s processes")
    # The pid file names LiteLLM's launcher, which is gone if the router was killed: same here.
    if stop_instance(instance_id(project.state, LITELLM), grace_s=LITELLM_GRACE_S):
        stopped.append(LITELLM)
    remove(project.pid_file(LITELLM))
    for path in sorted(project.state.glob("model-*.pid")):
        daemon = running_daemon(path)
        if daemon is not None:
            stop_tree(daemon.identity, grace_s=MODEL_GRACE_S)
            stopped.append(path.stem.removeprefix("model-"))
        remove(path)
    return stopped
