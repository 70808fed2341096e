"""Making queued upgrades permanent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config import parse
from llmstack.config.edit import with_value, without_key
from llmstack.config.ini import scan
from llmstack.errors import LlmstackError
from llmstack.files import exclusive
from llmstack.stack.install.install import refresh
from llmstack.stack.project import local_config, queued_tiers, running_router
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from llmstack.config import StackConfig, Tier
    from llmstack.paths import Project

QUEUED = {
    "hf_repo_next": "hf_repo",
    "hf_file_next": "hf_file",
    "size_gb_next": "size_gb",
    "quant_next": "quant",
    "model_next": "model",
}
OF_ONE_FILE = ("size_gb", "quant")  # they describe the file that goes, and are not inherited by the new one


@dataclass(frozen=True, slots=True)
class Promoted:
    """What `promote` did: per tier what served it before and what serves it now.

    Attributes:
        running: the stack runs, and takes it up at the next `restart`.
    """

    tiers: dict[str, tuple[str, str]]
    running: bool


def promote(project: Project, store: Path, names: Sequence[str]) -> Promoted:
    """Put queued upgrades in the place of what they upgrade, in models.ini, its comments kept.

    Args:
        project: an installed project.
        store: the list of trusted projects.
        names: tiers or aliases; every tier with a queued upgrade where it is empty.

    Raises:
        LlmstackError: nothing is queued, or a name is not one of a tier with a queued upgrade.
    """
    config = local_config(project)
    trust_store.require(project, store)
    tiers = _chosen(config, names)
    text = config.text
    for tier in tiers:
        text = promoted(text, tier.name)
    edited = parse(text, str(project.models_ini), base=project.models_ini.parent)
    with exclusive(project.lock, "promote"):
        if local_config(project).text != config.text:
            raise LlmstackError(f"{project.models_ini} was edited meanwhile", hint="try again")
        refresh(project, store, edited, models_ini=text)
    moved = {tier.name: (tier.model.label, edited.tiers[tier.name].model.label) for tier in tiers}
    return Promoted(moved, running=running_router(project) is not None)


def _chosen(config: StackConfig, names: Sequence[str]) -> list[Tier]:
    if not names:
        return queued_tiers(config)
    found = [(name, config.find(name)) for name in names]
    for name, tier in found:
        if tier is None or tier.queued is None:
            known = ", ".join(each.name for each in config.tiers.values() if each.queued) or "none"
            raise LlmstackError(f"`{name}` has no queued upgrade; tiers with one: {known}")
    return [tier for _, tier in found if tier is not None]


def promoted(text: str, tier: str) -> str:
    """Return models.ini with the queued upgrade of one tier in place."""
    section = scan(text).find(tier)
    if section is None:
        raise LlmstackError(f"models.ini has no section [{tier}]")
    values = {entry.key: entry.value for entry in section.entries}
    for key in OF_ONE_FILE:
        if "hf_file_next" in values and f"{key}_next" not in values:
            text = without_key(text, tier, key)
    for queued, key in QUEUED.items():
        if queued in values:
            text = without_key(with_value(text, tier, key, values[queued]), tier, queued)
    return text
