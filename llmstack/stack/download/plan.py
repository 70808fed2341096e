"""Which files `llmstack download` has to fetch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config.model import GgufModel
from llmstack.errors import UsageError
from llmstack.llama_cpp.weights import find_weights
from llmstack.stack.download.state import DownloadItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmstack.config.model import LocalChannel, StackConfig, Tier

LABELS: tuple[LocalChannel, ...] = ("current", "next")


@dataclass(frozen=True, slots=True)
class DownloadPlan:
    """The files to fetch, and those that are on disk.

    Attributes:
        items: the files to fetch.
        present: the files that are on disk already.
        size_gb: of `items`, as far as models.ini gives sizes.
    """

    items: list[DownloadItem]
    present: list[DownloadItem]
    size_gb: float


def plan_downloads(
    config: StackConfig,
    env: Mapping[str, str],
    names: Sequence[str] = (),
    labels: Sequence[LocalChannel] = LABELS,
) -> DownloadPlan:
    """Return which files to fetch.

    Args:
        config: models.ini on channel current, which has both current files and queued ones.
        env: for the hub's cache.
        names: tiers or aliases; if empty, every tier.
        labels: current files, queued ones, or both.

    Raises:
        UsageError: there is no such tier.
    """
    items: dict[tuple[str, str], DownloadItem] = {}
    present: dict[tuple[str, str], DownloadItem] = {}
    size_gb = 0.0
    for tier in _select_tiers(config, names):
        for label in labels:
            model = tier.model if label == "current" else tier.next_model
            if not isinstance(model, GgufModel) or model.repo is None or model.file is None:
                continue
            key = (model.repo, model.file)
            if key in items or key in present:
                continue
            item = DownloadItem(tier.name, label, model.repo, model.file)
            if find_weights(model, env) is not None:
                present[key] = item
            else:
                items[key] = item
                size_gb += model.size_gb or 0.0
    return DownloadPlan([*items.values()], [*present.values()], size_gb)


def _select_tiers(config: StackConfig, names: Sequence[str]) -> Iterable[Tier]:
    if not names:
        return list(config.tiers.values())
    tiers = []
    for name in names:
        tier = config.find(name)
        if tier is None:
            raise UsageError(f"no tier is called `{name}`", hint=f"known are {', '.join(config.tiers)}")
        tiers.append(tier)
    return tiers
