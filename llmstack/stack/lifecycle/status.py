"""What runs, and in which state."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from llmstack.config.model import GgufModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.memory.preflight import find_obstacles
from llmstack.stack.download.state import DownloadDir, DownloadItem, read_last_run
from llmstack.stack.project import (
    active_channel,
    make_client,
    require_config,
    router_address,
    running_router,
)
from llmstack.stack.remote.remote_router import fetch_status
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import Project
    from llmstack.process.identity import Daemon
    from llmstack.stack.remote.router_documents import StatusDocument, TierDocument

# Fields of `TierStatus` that are copied from a tier in the router's `/llmstack/status` (`TierDocument`).
TIER_FIELDS = (
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


@dataclass(frozen=True, slots=True)
class RouterStatus:
    """The router.

    Attributes:
        pid: None if it does not run, or runs for another project.
        uptime_s: seconds since its start.
        rss_mb: resident memory of its process.
        problem: why it is not healthy.
    """

    url: str
    pid: int | None
    healthy: bool
    uptime_s: float | None = None
    rss_mb: float | None = None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class TierStatus:
    """One tier.

    Attributes:
        state: `resident` (loaded), `loading`, `idle`, `down` or `remote`.
        rss_mb: resident memory of its model server.
        leases: requests in progress; `waiting` those that wait for the model.
        detail: why it is down.
    """

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
        litellm: its state, pid, memory, addresses and key file; empty if no tier uses it.
        recent: the last decisions, oldest first.
        healthy: the router is up, and so is every model that was requested and can start.
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
    downloads: list[DownloadItem] = field(default_factory=list)


def read_status(trusted: TrustedProject, env: Mapping[str, str]) -> StackStatus:
    """Return the status of a project's stack and of its downloads.

    Raises:
        LlmstackError: the project has no models.ini.
    """
    url = trusted.remote_url
    status = _own_status(trusted, env) if url is None else _remote_status(trusted.project, env, url)
    return replace(status, downloads=_read_downloads(trusted.project, env))


def _own_status(trusted: TrustedProject, env: Mapping[str, str]) -> StackStatus:
    """Return the status of the project's own stack, without its downloads."""
    project, channel = trusted.project, active_channel(trusted)
    config = require_config(trusted).for_channel(channel.local_channel)
    daemon = running_router(project)
    client = make_client(trusted, router_address(daemon, config))
    if daemon is None:
        router = RouterStatus(client.url, pid=None, healthy=False, problem="not running")
        return StackStatus(str(project.work_dir), str(channel), router, {}, _stopped_tiers(config, env))
    try:
        answer = client.status()
    except LlmstackError as error:
        router = _router_status(client.url, daemon, error.message)
        return StackStatus(str(project.work_dir), str(channel), router, {}, _stopped_tiers(config, env))
    litellm = _litellm_status(answer)
    failed = [tier for tier in answer.tiers if tier.state == "down" and tier.can_start]
    return StackStatus(
        work_dir=answer.work_dir,
        channel=answer.channel,
        router=_router_status(client.url, daemon, None),
        swapper=_as_dict(answer.swapper),
        tiers=[_tier_status(tier, rss_mb=_rss_mb(tier.pid, children=True)) for tier in answer.tiers],
        litellm=litellm,
        recent=[_as_dict(request) for request in answer.recent],
        healthy=not failed,
    )


def _litellm_status(answer: StatusDocument) -> dict[str, Any]:
    proxy = answer.backends.litellm
    return {**_as_dict(proxy), "rss_mb": _rss_mb(proxy.pid, children=True)} if proxy is not None else {}


def _remote_status(project: Project, env: Mapping[str, str], url: str) -> StackStatus:
    """Return what a thin client sees: the router's status, without pids, which mean nothing here."""
    router = RouterStatus(url, pid=None, healthy=False)
    unreachable = StackStatus(str(project.work_dir), f"external {url}", router, {}, [])
    try:
        answer = fetch_status(url, env)
    except LlmstackError as error:
        return replace(unreachable, router=replace(router, problem=error.message))
    return replace(
        unreachable,
        router=replace(router, healthy=True, uptime_s=round(time.time() - answer.started, 1)),
        swapper=_as_dict(answer.swapper),
        tiers=[replace(_tier_status(tier, rss_mb=None), pid=None) for tier in answer.tiers],
        healthy=True,
    )


def _router_status(url: str, daemon: Daemon, problem: str | None) -> RouterStatus:
    process = daemon.identity.process()
    started = process.create_time() if process is not None else daemon.identity.start_time
    return RouterStatus(
        url=url,
        pid=daemon.identity.pid,
        healthy=problem is None,
        uptime_s=round(time.time() - started, 1),  # both times follow later corrections of the clock
        rss_mb=_rss_mb(daemon.identity.pid, children=False),
        problem=problem,
    )


def _tier_status(tier: TierDocument, *, rss_mb: float | None) -> TierStatus:
    return TierStatus(**{name: getattr(tier, name) for name in TIER_FIELDS}, rss_mb=rss_mb)


def _as_dict(document: msgspec.Struct) -> dict[str, Any]:
    from llmstack.stack.remote.router_documents import as_dict  # noqa: PLC0415 - not needed if nothing runs

    return as_dict(document)


def _stopped_tiers(config: StackConfig, env: Mapping[str, str]) -> list[TierStatus]:
    """Return what is known about the tiers without asking a router."""
    unavailable = find_obstacles(config, env)
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


def _read_downloads(project: Project, env: Mapping[str, str]) -> list[DownloadItem]:
    """Return the files of the last `download`; a file that is on disk is done, however it got there."""
    last_run = read_last_run(DownloadDir(project.state, project.logs))
    items = last_run.items if last_run is not None else []
    for item in items:
        if item.state in {"failed", "interrupted"} and find_weights(GgufModel(item.repo, item.file), env):
            item.state, item.error, item.hint = "done", "", ""
    return items


def _rss_mb(pid: int | None, *, children: bool) -> float | None:
    """Return resident memory in MB, also of child processes: llama-server is a child of its launcher."""
    if pid is None:
        return None
    import psutil  # noqa: PLC0415 - not needed if nothing runs

    try:
        process = psutil.Process(pid)
        family = [process, *process.children(recursive=True)] if children else [process]
        return round(sum(member.memory_info().rss for member in family) / MB, 1)
    except psutil.Error:
        return None
