"""Tiers against the model hub: what it has under their names, and what of that is worth saying."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from llmstack.config.model import GgufModel
from llmstack.hub.access import HubAccess
from llmstack.hub.metadata import FileQuery, HubUnreachableError, look_up
from llmstack.llama_cpp.weights import find_weights
from llmstack.serving.memory.survey import RemoteFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import Model, StackConfig, Tier
    from llmstack.hub.metadata import HubAnswer
    from llmstack.serving.memory.survey import Survey

SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to mend."""

    tier: str | None
    message: str
    hint: str = ""
    level: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class AtHub:
    """What the hub has under a tier's name; size and date are None where it has nothing."""

    page: str
    size_bytes: int | None
    date: str | None


@dataclass(frozen=True, slots=True)
class Answers:
    """What the hub said, or why nobody could ask it."""

    files: Mapping[tuple[str, str], HubAnswer] = field(default_factory=dict)
    silent: Finding | None = None

    def of(self, model: Model | None) -> HubAnswer | None:
        """Return what it said of a model."""
        if not isinstance(model, GgufModel) or model.repo is None or model.file is None:
            return None
        return self.files.get((model.repo, model.file))

    def seen(self, tier: Tier) -> AtHub | None:
        """Return what is there under the tier's name."""
        said = self.of(tier.model)
        return AtHub(said.page, said.size_bytes, said.date) if said else None

    def elsewhere(self, config: StackConfig) -> dict[str, RemoteFile]:
        """Return size and shape of files that may not be on disk, by tier."""
        said = {name: self.of(tier.model) for name, tier in config.tiers.items()}
        return {
            name: RemoteFile(file.size_bytes, file.header)
            for name, file in said.items()
            if file and file.size_bytes
        }

    def findings(self, config: StackConfig, found: Survey, env: Mapping[str, str]) -> list[Finding]:
        """Return wrong names, files that differ from the hub's, and that nobody could ask."""
        findings = [self.silent] if self.silent else []
        for name, tier in config.tiers.items():
            findings += _about(
                name, self.of(tier.model), found.tiers[name].weights, found.tiers[name].size_bytes
            )
            queued = self.of(tier.queued) if tier.channel == "current" else None
            if queued is not None and queued.problem and _missing(tier.queued, env):
                findings.append(Finding(name, f"queued: {queued.problem}", queued.hint, "warning"))
        return findings


def ask_hub(config: StackConfig, env: Mapping[str, str], *, offline: bool) -> Answers:
    """Ask the hub about every file that models.ini names there; of those not on disk the header too."""
    wanted: dict[tuple[str, str], FileQuery] = {}
    for tier in config.tiers.values():
        for model in (tier.model, tier.queued):
            if isinstance(model, GgufModel) and model.repo and model.file:
                shape = model is tier.model and _missing(model, env)
                known = wanted.get((model.repo, model.file))
                wanted[model.repo, model.file] = FileQuery(
                    model.repo, model.file, shape or (known is not None and known.shape)
                )
    if offline or not wanted:
        return Answers()
    access = HubAccess.from_env(env)
    if access.offline:
        return Answers(
            silent=Finding(None, "HF_HUB_OFFLINE is set: nothing was asked of the hub", "", "warning")
        )
    try:
        said = look_up(list(wanted.values()), access)
    except HubUnreachableError as error:
        return Answers(silent=Finding(None, error.message, error.hint or "", "warning"))
    return Answers({key: said[file] for key, file in wanted.items()})


def _missing(model: Model | None, env: Mapping[str, str]) -> bool:
    return isinstance(model, GgufModel) and find_weights(model, env) is None


def _about(tier: str, said: HubAnswer | None, weights: Path | None, size: int) -> list[Finding]:
    if said is None:
        return []
    if said.problem:
        # What is on disk runs on; what is not cannot be had.
        return [Finding(tier, said.problem, said.hint, "error" if weights is None else "warning")]
    if weights is None or said.size_bytes is None:
        return []
    if said.size_bytes != size:
        message = f"{weights.name} has {size} bytes on disk and {said.size_bytes} at the hub"
        hint = f"it was cut short here or changed there ({said.page}): fetch it again"
        return [Finding(tier, message, hint, "warning")]
    kept = weights.resolve().name  # the hub's cache names a file by its ETag
    if weights.is_symlink() and len(kept) == SHA256_DIGITS and said.etag not in {None, kept}:
        message = f"the hub has another version of {weights.name}"
        return [Finding(tier, message, f"see {said.page}/commits/main", "warning")]
    return []
