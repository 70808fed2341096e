"""Configured against actual: this machine, the model hub, and what runs now."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from llmstack.config import parse
from llmstack.config.model import BackendKind, GgufModel
from llmstack.errors import LlmstackError
from llmstack.hub.audit import Finding, ask_hub
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.memory.footprint import GB
from llmstack.serving.memory.survey import survey
from llmstack.stack.project import active_channel, client_of_own, running_router
from llmstack.stack.route import config_here

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import Model, StackConfig, Tier
    from llmstack.hub.audit import AtHub
    from llmstack.paths import Project, UserDirs
    from llmstack.serving.memory.footprint import Footprint
    from llmstack.serving.memory.survey import Survey

GROWTH_WORTH_SAYING = GB


@dataclass(frozen=True, slots=True)
class TierCheck:
    """One tier.

    Attributes:
        file: what it loads or asks for.
        on_disk: None for a tier that needs no file.
        size_bytes: on disk, else at the hub.
        need: memory once resident; None where it is not known.
        kv_known: whether `need` has the KV cache: it takes the file's header, here or at the hub.
        drift: how the running stack differs from models.ini; None where it does not.
        next: the queued upgrade; `next_on_disk` whether it is here.
        fits: alone in the memory budget; None where its size is not known.
        hub: what the hub has under that name; None where nobody was asked.
    """

    name: str
    backend: str
    file: str
    on_disk: bool | None
    size_bytes: int | None
    need: Footprint | None
    kv_known: bool
    drift: str | None
    next: str | None
    next_on_disk: bool | None
    fits: bool | None
    hub: AtHub | None


@dataclass(frozen=True, slots=True)
class Combination:
    """Tiers that may be resident together, and the bytes they need."""

    tiers: tuple[str, ...]
    need_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class Checked:
    """What `check` found."""

    source: str
    engine: str | None
    budget_bytes: int
    budget_origin: str
    tiers: list[TierCheck]
    combinations: list[Combination]
    problems: list[Finding]


def check(
    project: Project | None, user: UserDirs, env: Mapping[str, str], *, offline: bool = False
) -> Checked:
    """Compare the configuration with this machine, and with the hub unless `offline`."""
    config = config_here(project, user)
    hub = ask_hub(config, env, offline=offline)
    found = survey(config, env, elsewhere=hub.elsewhere(config))
    edited = _edited_since_start(project, config, env)
    problems = [
        Finding(name, tier.obstacle.reason, tier.obstacle.hint)
        for name, tier in found.tiers.items()
        if tier.obstacle is not None
    ]
    problems += hub.findings(config, found, env)
    problems += _memory_findings(found)
    problems += _override_findings(project)
    return Checked(
        source=config.source,
        engine=str(found.engine.path) if found.engine and found.engine.kind == "native" else _kind(found),
        budget_bytes=found.plan.budget,
        budget_origin=found.budget.origin if found.budget else "",
        tiers=[
            _tier(tier, found, edited, next_on_disk=_on_disk(tier.queued, env), hub=hub.seen(tier))
            for tier in config.tiers.values()
        ],
        combinations=[
            Combination(names, sum(found.plan.needs[name] for name in names), found.plan.fits(names))
            for names in found.plan.sets()
        ],
        problems=problems,
    )


def _kind(found: Survey) -> str | None:
    return found.engine.kind if found.engine else None


def _on_disk(model: Model | None, env: Mapping[str, str]) -> bool | None:
    return find_weights(model, env) is not None if isinstance(model, GgufModel) else None


def _tier(
    tier: Tier, found: Survey, edited: Mapping[str, str], *, next_on_disk: bool | None, hub: AtHub | None
) -> TierCheck:
    seen = found.tiers[tier.name]
    local = tier.backend is BackendKind.GGUF
    fits = not found.plan.exceeds(tier.name) if tier.name in found.plan.needs else None
    if seen.header is None and fits:
        fits = None  # the KV cache comes on top, and how large it is stands in the file
    queued = tier.queued is not None and tier.channel == "current"
    return TierCheck(
        name=tier.name,
        backend=tier.backend,
        file=tier.model.label,
        on_disk=seen.weights is not None if local else None,
        size_bytes=seen.size_bytes or None,
        need=seen.need,
        kv_known=seen.header is not None,
        drift=edited.get(tier.name),
        next=tier.queued.label if queued and tier.queued is not None else None,
        next_on_disk=next_on_disk if queued else None,
        fits=fits,
        hub=hub,
    )


def _memory_findings(found: Survey) -> list[Finding]:
    """Warn of a tier that no budget holds, and of one that grows far beyond it."""
    too_large = [
        Finding(
            name,
            f"needs {need / GB:.1f} GB of a budget of {found.plan.budget / GB:.1f} GB: loaded by itself",
            found.plan.advice.get(name, ""),
            "warning",
        )
        for name, need in found.plan.needs.items()
        if found.plan.exceeds(name)
    ]
    growing = [
        Finding(
            name,
            f"long conversations may take {seen.need.checkpoints / GB:.1f} GB of RAM more: llama.cpp copies"
            " what this kind of model cannot rewind, up to 32 times for each slot",
            "`extra_args = --ctx-checkpoints 8` keeps fewer",
            "warning",
        )
        for name, seen in found.tiers.items()
        if seen.need is not None and seen.need.checkpoints > GROWTH_WORTH_SAYING
    ]
    return too_large + growing


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
    client = client_of_own(daemon, config, env)
    try:
        served = parse(client.models_ini(), client.url, base=project.models_ini.parent)
    except LlmstackError as error:
        return dict.fromkeys(config.tiers, f"unknown: {error.message}")
    served = served.on(active_channel(project).runs)
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
