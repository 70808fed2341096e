"""Compare the configuration with this machine, the model hub, and the running stack."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from llmstack.config import parse
from llmstack.config.model import BackendKind, GgufModel
from llmstack.errors import LlmstackError
from llmstack.hub.audit import CheckProblem, query_hub
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.memory.survey import survey as survey_machine
from llmstack.stack.project import (
    active_channel,
    config_or_default,
    make_client,
    router_address,
    running_router,
)
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import Model, StackConfig, Tier
    from llmstack.config.trusted import TrustedProject
    from llmstack.hub.audit import HubSummary
    from llmstack.paths import Project, UserDirs
    from llmstack.serving.memory.footprint import Footprint
    from llmstack.serving.memory.survey import Survey

CHECKPOINT_WARNING_BYTES = GB
OPENCODE_OVERRIDES = (
    "opencode.json",
    "opencode.jsonc",
    ".opencode/opencode.json",
    ".opencode/opencode.jsonc",
)


@dataclass(frozen=True, slots=True)
class TierCheck:
    """One tier.

    Attributes:
        file: the file it loads, or the model it requests.
        on_disk: whether that file is on disk; None for a tier that needs no file.
        size_bytes: of the file on disk, otherwise of the one at the hub.
        need: memory when loaded; None if unknown.
        kv_known: whether `need` includes the KV cache, which takes the file's header, from disk or the hub.
        drift: how the running stack differs from models.ini; None if it does not.
        next: the queued upgrade.
        next_on_disk: whether the queued upgrade is on disk.
        fits: whether it fits into the memory budget by itself; None if its size is unknown.
        hub: what the hub has under that name; None if the hub was not queried.
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
    hub: HubSummary | None


@dataclass(frozen=True, slots=True)
class Combination:
    """Tiers that may be loaded together, and the bytes they need."""

    tiers: tuple[str, ...]
    need_bytes: int
    fits: bool


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of `check`.

    Attributes:
        source: the file, URL or profile that was checked.
        engine: path of llama-server, or the kind of the bundled engine; None if there is no engine.
        budget_bytes: memory for models; `budget_origin` says what it is based on.
        combinations: tiers that may be loaded together.
        problems: errors and warnings.
    """

    source: str
    engine: str | None
    budget_bytes: int
    budget_origin: str
    tiers: list[TierCheck]
    combinations: list[Combination]
    problems: list[CheckProblem]


def check(
    trusted: TrustedProject | None, user: UserDirs, env: Mapping[str, str], *, offline: bool = False
) -> CheckResult:
    """Compare the configuration with this machine, and with the hub unless `offline`.

    Args:
        trusted: the project; None checks the bundled default profile.
        user: the user's directories.
        env: environment for finding files, the hub and the router's key.
        offline: do not query the hub.

    Raises:
        LlmstackError: an installed project has no models.ini.
    """
    config = config_or_default(trusted, user)
    hub = query_hub(config, env, offline=offline)
    survey = survey_machine(config, env, remote_files=hub.remote_files(config))
    drift = _find_drift(trusted, config)
    problems = [
        CheckProblem(name, tier.obstacle.reason, tier.obstacle.hint)
        for name, tier in survey.tiers.items()
        if tier.obstacle is not None
    ]
    problems += hub.problems(config, survey, env)
    problems += _memory_problems(survey)
    problems += _override_problems(trusted.project if trusted is not None else None)
    return CheckResult(
        source=config.source,
        engine=_engine_name(survey),
        budget_bytes=survey.plan.budget,
        budget_origin=survey.budget.origin if survey.budget else "",
        tiers=[
            _check_tier(
                tier,
                survey,
                drift=drift.get(tier.name),
                next_on_disk=_is_on_disk(tier.next_model, env),
                hub=hub.summary(tier),
            )
            for tier in config.tiers.values()
        ],
        combinations=[
            Combination(names, sum(survey.plan.needs[name] for name in names), survey.plan.fits(names))
            for names in survey.plan.sets()
        ],
        problems=problems,
    )


def _engine_name(survey: Survey) -> str | None:
    if survey.engine is None:
        return None
    return str(survey.engine.path) if survey.engine.kind == "native" else survey.engine.kind


def _is_on_disk(model: Model | None, env: Mapping[str, str]) -> bool | None:
    return find_weights(model, env) is not None if isinstance(model, GgufModel) else None


def _check_tier(
    tier: Tier, survey: Survey, *, drift: str | None, next_on_disk: bool | None, hub: HubSummary | None
) -> TierCheck:
    tier_survey = survey.tiers[tier.name]
    fits = not survey.plan.exceeds(tier.name) if tier.name in survey.plan.needs else None
    if tier_survey.header is None and fits:
        fits = None  # the KV cache comes on top, and only the header says how large it is
    next_model = tier.next_model if tier.channel == "current" else None
    return TierCheck(
        name=tier.name,
        backend=tier.backend,
        file=tier.model.label,
        on_disk=tier_survey.weights is not None if tier.backend is BackendKind.GGUF else None,
        size_bytes=tier_survey.size_bytes or None,
        need=tier_survey.need,
        kv_known=tier_survey.header is not None,
        drift=drift,
        next=next_model.label if next_model is not None else None,
        next_on_disk=next_on_disk if next_model is not None else None,
        fits=fits,
        hub=hub,
    )


def _memory_problems(survey: Survey) -> list[CheckProblem]:
    """Warn about tiers larger than the budget, and about those that may grow far beyond it."""
    too_large = [
        CheckProblem(
            name,
            f"needs {need / GB:.1f} GB of a budget of {survey.plan.budget / GB:.1f} GB: loaded by itself",
            survey.plan.advice.get(name, ""),
            "warning",
        )
        for name, need in survey.plan.needs.items()
        if survey.plan.exceeds(name)
    ]
    growing = [
        CheckProblem(
            name,
            f"long conversations may take {tier.need.checkpoints / GB:.1f} GB more RAM: llama.cpp copies what"
            " this kind of model cannot rewind, up to 32 times for each slot",
            "`extra_args = --ctx-checkpoints 8` keeps fewer copies",
            "warning",
        )
        for name, tier in survey.tiers.items()
        if tier.need is not None and tier.need.checkpoints > CHECKPOINT_WARNING_BYTES
    ]
    return too_large + growing


def _override_problems(project: Project | None) -> list[CheckProblem]:
    """Warn about an opencode.json of the repository, which overrides the generated one in opencode."""
    if project is None:
        return []
    paths = (project.work_dir / name for name in OPENCODE_OVERRIDES)
    return [
        CheckProblem(
            None,
            f"{path} overrides what llmstack configures for opencode",
            "`llmstack run opencode` ignores it",
            "warning",
        )
        for path in paths
        if path.is_file()
    ]


def _find_drift(trusted: TrustedProject | None, config: StackConfig) -> dict[str, str]:
    """Return, by tier, how models.ini differs from what the running router serves."""
    daemon = running_router(trusted.project) if trusted is not None else None
    if trusted is None or daemon is None:
        return {}
    client = make_client(trusted, router_address(daemon, config))
    try:
        served = parse(client.models_ini(), client.url, base=trusted.project.models_ini.parent)
    except LlmstackError as error:
        return dict.fromkeys(config.tiers, f"unknown: {error.message}")
    served = served.for_channel(active_channel(trusted).local_channel)
    drift = {}
    for name, tier in config.tiers.items():
        running = served.tiers.get(name)
        if running is None:
            drift[name] = "not in the running stack"
        elif changed := [
            field.name
            for field in fields(tier)
            if field.name != "line" and getattr(tier, field.name) != getattr(running, field.name)
        ]:
            drift[name] = f"edited since the start: {', '.join(changed)}"
    return drift
