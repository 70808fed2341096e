"""Configured against actual, as far as it is known without asking anyone."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

from llmstack.channel import NEXT
from llmstack.config import parse
from llmstack.config.model import Backend
from llmstack.errors import LlmstackError
from llmstack.stack.project import active_channel, router_address, running_router
from llmstack.stack.router_client import RouterClient, api_key
from llmstack.stack.routing import config_here
from llmstack.swapper.survey import survey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project, UserDirs
    from llmstack.swapper.planner import Footprint
    from llmstack.swapper.survey import Survey, TierSurvey


@dataclass(frozen=True, slots=True)
class TierCheck:
    """One tier.

    Attributes:
        file: what it loads or asks for.
        on_disk: None for a tier that needs no file.
        need: memory once resident; None where it is not known.
        drift: how the running stack differs from models.ini; None where it does not.
        next: the queued upgrade.
        fits: alone in the memory budget; None where its size is not known.
    """

    name: str
    backend: str
    file: str
    on_disk: bool | None
    size_bytes: int | None
    need: Footprint | None
    drift: str | None
    next: str | None
    fits: bool | None


@dataclass(frozen=True, slots=True)
class Combination:
    """Tiers that may be resident together, and the bytes they need."""

    tiers: tuple[str, ...]
    need_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend."""

    tier: str | None
    message: str
    hint: str = ""
    level: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found."""

    source: str
    engine: str | None
    budget_bytes: int
    tiers: list[TierCheck]
    combinations: list[Combination]
    problems: list[Finding]


def check(project: Project | None, user: UserDirs, env: Mapping[str, str]) -> Checked:
    """Compare the configuration with this machine."""
    config = config_here(project, user)
    found = survey(config, env)
    edited = _edited_since_start(project, config, env)
    problems = [
        Finding(name, tier.obstacle.reason, tier.obstacle.hint)
        for name, tier in found.tiers.items()
        if tier.obstacle is not None
    ]
    problems += _memory_findings(found)
    problems += _override_findings(project)
    return Checked(
        source=config.source,
        engine=str(found.engine.path) if found.engine and found.engine.kind == "native" else _kind(found),
        budget_bytes=found.plan.budget,
        tiers=[_tier(tier, found.tiers[name], found, edited) for name, tier in config.tiers.items()],
        combinations=[
            Combination(names, sum(found.plan.needs[name] for name in names), found.plan.fits(names))
            for names in found.plan.sets()
        ],
        problems=problems,
    )


def _kind(found: Survey) -> str | None:
    return found.engine.kind if found.engine else None


def _tier(tier: Tier, seen: TierSurvey, found: Survey, edited: Mapping[str, str]) -> TierCheck:
    local = tier.backend is Backend.GGUF
    fits = not found.plan.exceeds(tier.name) if tier.name in found.plan.needs else None
    if seen.weights is None and fits:
        fits = None  # the KV cache comes on top, and how large it is stands in the file
    return TierCheck(
        name=tier.name,
        backend=tier.backend,
        file=tier.model.label,
        on_disk=seen.weights is not None if local else None,
        size_bytes=seen.size_bytes or None,
        need=seen.need,
        drift=edited.get(tier.name),
        next=tier.queued.label if tier.queued is not None and tier.channel == "current" else None,
        fits=fits,
    )


def _memory_findings(found: Survey) -> list[Finding]:
    gb = 1024**3
    return [
        Finding(
            name,
            f"needs {need / gb:.1f} GB of a budget of {found.plan.budget / gb:.1f} GB: loaded by itself",
            "lower its `ctx_size` or `parallel`, or raise `memory_gb`",
            "warning",
        )
        for name, need in found.plan.needs.items()
        if need > found.plan.budget
    ]


def _override_findings(project: Project | None) -> list[Finding]:
    """Warn of an opencode.json of the project's own: opencode lets it win over ours."""
    if project is None:
        return []
    names = ("opencode.json", "opencode.jsonc", ".opencode/opencode.json", ".opencode/opencode.jsonc")
    return [
        Finding(
            None,
            f"{path} overrides what llmstack wires for opencode",
            "`llmstack run opencode` pins it",
            "warning",
        )
        for name in names
        if (path := project.work_dir / name).is_file()
    ]


def _edited_since_start(
    project: Project | None, config: StackConfig, env: Mapping[str, str]
) -> dict[str, str]:
    """Return the tiers that differ from what the running router serves."""
    daemon = running_router(project) if project is not None else None
    if project is None or daemon is None:
        return {}
    client = RouterClient(router_address(daemon, config).url, api_key(env, config.settings.api_key_env))
    try:
        served = parse(client.models_ini(), client.url, base=project.models_ini.parent)
    except LlmstackError as error:
        return dict.fromkeys(config.tiers, f"unknown: {error.message}")
    served = served.on("next" if active_channel(project) == NEXT else "current")
    drift = {}
    for name, tier in config.tiers.items():
        running = served.tiers.get(name)
        if running is None:
            drift[name] = "not in the running stack"
        elif changed := [
            each.name
            for each in fields(tier)
            if each.name != "line" and getattr(tier, each.name) != getattr(running, each.name)
        ]:
            drift[name] = f"edited since the start: {', '.join(changed)}"
    return drift
