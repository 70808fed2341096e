"""Comparing the tiers of models.ini with what the model hub has under their names."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
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
    from llmstack.hub.metadata import HubEntry
    from llmstack.serving.memory.survey import Survey

SHA256_DIGITS = 64


@dataclass(frozen=True, slots=True)
class CheckProblem:
    """A problem that `llmstack check` reports; `tier` is None if it concerns the whole configuration."""

    tier: str | None
    message: str
    hint: str = ""
    level: Literal["error", "warning"] = "error"


@dataclass(frozen=True, slots=True)
class HubSummary:
    """What `check` shows of a tier's file at the hub; size and date are None if the hub has no such file."""

    page: str
    size_bytes: int | None
    date: str | None


@dataclass(frozen=True, slots=True)
class HubAudit:
    """The hub's entries for the files of a configuration.

    Attributes:
        entries: by repository and file.
        unreachable: why the hub was not queried; None if it was, or if that was not requested.
    """

    entries: Mapping[tuple[str, str], HubEntry] = field(default_factory=dict)
    unreachable: CheckProblem | None = None

    def entry(self, model: Model | None) -> HubEntry | None:
        """Return the hub's entry for a model; None if the model names no file at the hub."""
        if not isinstance(model, GgufModel) or model.repo is None or model.file is None:
            return None
        return self.entries.get((model.repo, model.file))

    def summary(self, tier: Tier) -> HubSummary | None:
        """Return what the hub has under the tier's name."""
        entry = self.entry(tier.model)
        return HubSummary(entry.page, entry.size_bytes, entry.date) if entry else None

    def remote_files(self, config: StackConfig) -> dict[str, RemoteFile]:
        """Return size and header of the tiers' files at the hub, by tier."""
        entries = {name: self.entry(tier.model) for name, tier in config.tiers.items()}
        return {
            name: RemoteFile(entry.size_bytes, entry.header)
            for name, entry in entries.items()
            if entry and entry.size_bytes
        }

    def problems(self, config: StackConfig, survey: Survey, env: Mapping[str, str]) -> list[CheckProblem]:
        """Return wrong names, files that differ from the hub's, and that the hub is unreachable."""
        problems = [self.unreachable] if self.unreachable else []
        for name, tier in config.tiers.items():
            on_disk = survey.tiers[name]
            problems += _file_problems(name, self.entry(tier.model), on_disk.weights, on_disk.size_bytes)
            queued = self.entry(tier.next_model) if tier.channel == "current" else None
            if queued is not None and queued.problem and _is_missing(tier.next_model, env):
                problems.append(CheckProblem(name, f"queued: {queued.problem}", queued.hint, "warning"))
        return problems


def query_hub(config: StackConfig, env: Mapping[str, str], *, offline: bool) -> HubAudit:
    """Look up every hub file that models.ini names, with the header of current files that are not on disk.

    Args:
        config: models.ini.
        env: for the address and token of the hub, and for its cache.
        offline: do not query the hub, and do not report that as a problem.
    """
    queries = _queries(config, env)
    if offline or not queries:
        return HubAudit()
    access = HubAccess.from_env(env)
    if access.offline:
        message = "HF_HUB_OFFLINE is set: the hub was not queried"
        return HubAudit(unreachable=CheckProblem(None, message, "", "warning"))
    try:
        entries = look_up(list(queries.values()), access)
    except HubUnreachableError as error:
        return HubAudit(unreachable=CheckProblem(None, error.message, error.hint or "", "warning"))
    return HubAudit({key: entries[query] for key, query in queries.items()})


def _queries(config: StackConfig, env: Mapping[str, str]) -> dict[tuple[str, str], FileQuery]:
    queries: dict[tuple[str, str], FileQuery] = {}
    for tier in config.tiers.values():
        for model in (tier.model, tier.next_model):
            if isinstance(model, GgufModel) and model.repo and model.file:
                query = queries.setdefault((model.repo, model.file), FileQuery(model.repo, model.file))
                if model is tier.model and _is_missing(model, env):
                    queries[model.repo, model.file] = replace(query, with_header=True)
    return queries


def _is_missing(model: Model | None, env: Mapping[str, str]) -> bool:
    return isinstance(model, GgufModel) and find_weights(model, env) is None


def _file_problems(tier: str, entry: HubEntry | None, weights: Path | None, size: int) -> list[CheckProblem]:
    """Compare a tier's file on disk, `size` bytes, with the hub's entry for it."""
    if entry is None:
        return []
    if entry.problem:
        # A file on disk still runs; a missing one cannot be downloaded.
        return [CheckProblem(tier, entry.problem, entry.hint, "error" if weights is None else "warning")]
    if weights is None or entry.size_bytes is None:
        return []
    if entry.size_bytes != size:
        message = f"{weights.name} has {size} bytes on disk and {entry.size_bytes} at the hub"
        hint = f"it is incomplete, or the hub has a new version ({entry.page}): download it again"
        return [CheckProblem(tier, message, hint, "warning")]
    cached_etag = weights.resolve().name  # the hub's cache names a file by its ETag
    if weights.is_symlink() and len(cached_etag) == SHA256_DIGITS and entry.etag not in {None, cached_etag}:
        message = f"the hub has another version of {weights.name}"
        return [CheckProblem(tier, message, f"see {entry.page}/commits/main", "warning")]
    return []
