"""What runs, and how it is."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmstack.config.model import GgufModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.memory.preflight import missing
from llmstack.stack.download.state import DownloadDir, Item, read
from llmstack.stack.project import active_channel, client_of_own, local_config, running_router
from llmstack.stack.remote.remote_router import fetch_status, remote_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.process.identity import Daemon

MB = 1024**2


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """The router: `problem` says why it is not healthy."""

    url: str
    pid: int | None
    healthy: bool
    uptime_s: float | None = None
    rss_mb: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TierStatus:
    """One tier; `state` is one of resident, loading, idle, down, remote."""

    name: str
    role: str | None
    backend: str
    model: str
    ctx_size: int
    channel: str
    state: str
    pid: int | None = None
    rss_mb: float | None = None
    leases: int = 0
    waiting: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class StackStatus:
    """Everything that `status` reports.

    Attributes:
        swapper: its kind, engine and memory budget.
        litellm: its state, pid, memory, addresses, where its key is; empty where nothing is served by it.
        recent: the last decisions, oldest first.
        healthy: all that should be up is up: the router, and every model that was asked for could start.
        downloads: the files of the last `download`, running or ended.
    """

    work_dir: str
    channel: str
    router: RouterStatus
    swapper: dict[str, Any]
    tiers: list[TierStatus]
    litellm: dict[str, Any] = field(default_factory=dict)
    recent: list[dict[str, Any]] = field(default_factory=list)
    healthy: bool = False
    downloads: list[Item] = field(default_factory=list)


def status(project: Project, env: Mapping[str, str]) -> StackStatus:
    """Return the status of a project's stack, and of its downloads."""
    return replace(_stack(project, env), downloads=downloads(project, env))


def downloads(project: Project, env: Mapping[str, str]) -> list[Item]:
    """Return the files of the last `download`; what is on disk by now is done, however it got there."""
    last = read(DownloadDir(project.state, project.logs))
    items = last.items if last is not None else []
    for item in items:
        if item.state in {"failed", "interrupted"} and find_weights(GgufModel(item.repo, item.file), env):
            item.state, item.error, item.hint = "done", "", ""
    return items


def _elsewhere(project: Project, env: Mapping[str, str], url: str) -> StackStatus:
    """Return what a thin client sees: the router's own view, without what is true on its machine only."""
    router = RouterStatus(url, pid=None, healthy=False)
    seen = StackStatus(str(project.work_dir), f"external {url}", router, {}, [])
    try:
        live = fetch_status(url, env)
        tiers = [replace(_tier({**entry, "pid": None}), pid=None) for entry in live["tiers"]]
        uptime = round(time.time() - live["started"], 1)
        return replace(
            seen,
            router=replace(router, healthy=True, uptime_s=uptime),
            swapper=dict(live["swapper"]),
            tiers=tiers,
            healthy=True,
        )
    except LlmstackError as error:
        problem = error.message
    except (KeyError, TypeError, ValueError):
        problem = f"{url} answers, but is no llmstack router"
    return replace(seen, router=replace(router, problem=problem))


def _stack(project: Project, env: Mapping[str, str]) -> StackStatus:
    url = remote_url(project)
    if url is not None:
        return _elsewhere(project, env, url)
    declared = local_config(project)
    channel = active_channel(project)
    config = declared.on(channel.runs)
    daemon = running_router(project)
    client = client_of_own(daemon, config, env)
    if daemon is None:
        return _stopped(project, config, client.url, env)
    try:
        live = client.status()
    except LlmstackError as error:
        router = _router(client.url, daemon, error.message)
        return StackStatus(str(project.work_dir), str(channel), router, {}, _declared(config, env))
    litellm = live["backends"].get("litellm", {})
    if litellm:
        pid = litellm["pid"]
        litellm = {**litellm, "rss_mb": _rss_mb(pid, children=True) if pid is not None else None}
    failed = [entry for entry in live["tiers"] if entry["state"] == "down" and entry["can_start"]]
    return StackStatus(
        work_dir=live["work_dir"],
        channel=live["channel"],
        router=_router(client.url, daemon, None),
        swapper=live["swapper"],
        tiers=[_tier(entry) for entry in live["tiers"]],
        litellm=litellm,
        recent=live["recent"],
        healthy=not failed,
    )


def _router(url: str, daemon: Daemon, problem: str | None) -> RouterStatus:
    process = daemon.identity.process()
    started = process.create_time() if process is not None else daemon.identity.started
    return RouterStatus(
        url=url,
        pid=daemon.identity.pid,
        healthy=problem is None,
        uptime_s=round(time.time() - started, 1),  # by the clock of today, corrected or not
        rss_mb=_rss_mb(daemon.identity.pid, children=False),
        problem=problem,
    )


def _stopped(project: Project, config: StackConfig, url: str, env: Mapping[str, str]) -> StackStatus:
    router = RouterStatus(url, pid=None, healthy=False, problem="not running")
    return StackStatus(
        str(project.work_dir), str(active_channel(project)), router, {}, _declared(config, env)
    )


def _declared(config: StackConfig, env: Mapping[str, str]) -> list[TierStatus]:
    """Return the tiers as far as they are known without a router."""
    unavailable = missing(config, env)
    return [
        TierStatus(
            name=tier.name,
            role=tier.role,
            backend=tier.backend,
            model=tier.model.label,
            ctx_size=tier.ctx_size,
            channel=tier.channel,
            state="down",
            detail=unavailable.get(tier.name, ""),
        )
        for tier in config.tiers.values()
    ]


def _tier(entry: dict[str, Any]) -> TierStatus:
    pid = entry["pid"]
    names = (
        "name",
        "role",
        "backend",
        "model",
        "ctx_size",
        "channel",
        "state",
        "pid",
        "leases",
        "waiting",
        "detail",
    )
    return TierStatus(
        **{name: entry[name] for name in names},
        rss_mb=_rss_mb(pid, children=True) if pid is not None else None,
    )


def _rss_mb(pid: int, *, children: bool) -> float | None:
    """Return resident memory in MB; a native llama-server is the child of its launcher."""
    import psutil  # noqa: PLC0415 - not needed where nothing runs

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)] if children else [process]
        return round(sum(member.memory_info().rss for member in family) / MB, 1)
    except psutil.Error:
        return None
