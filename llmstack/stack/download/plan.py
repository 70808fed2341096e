"""Which files there are to fetch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.config.model import GgufModel
from llmstack.errors import UsageError
from llmstack.llama_cpp.weights import find_weights
from llmstack.stack.download.state import Item
from llmstack.stack.project import own_config, refuse_thin_client
from llmstack.stack.route import config_here
from llmstack.trust.store import refuse_unsafe_dir

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmstack.config.model import LocalChannel, StackConfig, Tier
    from llmstack.paths import Project, UserDirs

LABELS: tuple[LocalChannel, ...] = ("current", "next")


@dataclass(frozen=True, slots=True)
class Planned:
    """What there is to do.

    Attributes:
        items: to fetch; `present` those that are on disk already.
        other: tiers without a file at the hub, with the reason.
        size_gb: of `items`, as far as models.ini says.
    """

    items: list[Item]
    present: list[Item]
    other: dict[str, str] = field(default_factory=dict)
    size_gb: float = 0.0


def declared(project: Project | None, user: UserDirs) -> StackConfig:
    """Return models.ini as it stands, whatever the channel; the bundled default where there is no project.

    Raises:
        LlmstackError: it is wrong, or the project is a thin client.
    """
    if project is not None:
        refuse_unsafe_dir(project)
        refuse_thin_client(project)
    return own_config(project) or config_here(None, user)


def plan(
    config: StackConfig,
    env: Mapping[str, str],
    names: Sequence[str] = (),
    labels: Sequence[LocalChannel] = LABELS,
) -> Planned:
    """Return which files to fetch.

    Args:
        config: models.ini on channel current, so that it says both what is and what is queued.
        env: for the hub's cache.
        names: tiers or aliases; every tier without any.
        labels: current files, queued ones, or both.

    Raises:
        UsageError: a tier is not known.
    """
    planned = Planned([], [])
    seen: set[tuple[str, str]] = set()
    size_gb = 0.0
    for tier in _tiers(config, names):
        for label in labels:
            model = tier.model if label == "current" else tier.queued
            if not isinstance(model, GgufModel) or model.repo is None or model.file is None:
                if label == "current":
                    local = isinstance(model, GgufModel)
                    planned.other[tier.name] = "a local file" if local else f"backend {tier.backend}"
                continue
            if (model.repo, model.file) in seen:
                continue
            seen.add((model.repo, model.file))
            item = Item(tier.name, label, model.repo, model.file)
            if find_weights(model, env) is not None:
                planned.present.append(item)
            else:
                planned.items.append(item)
                size_gb += model.size_gb or 0.0
    return Planned(planned.items, planned.present, planned.other, size_gb)


def _tiers(config: StackConfig, names: Sequence[str]) -> Iterable[Tier]:
    if not names:
        return list(config.tiers.values())
    found = [(name, config.find(name)) for name in names]
    for name, tier in found:
        if tier is None:
            raise UsageError(f"no tier is called `{name}`", hint=f"known are {', '.join(config.tiers)}")
    return [tier for _, tier in found if tier is not None]
