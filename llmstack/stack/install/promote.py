"""Making queued upgrades permanent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config import parse
from llmstack.config.edit import remove_key, set_value
from llmstack.config.ini import scan
from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock
from llmstack.stack.install.project_files import dependent_files
from llmstack.stack.project import queued_tiers, require_config, running_router

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmstack.config import StackConfig, Tier
    from llmstack.config.trusted import TrustedProject

QUEUED_KEYS = {
    "hf_repo_next": "hf_repo",
    "hf_file_next": "hf_file",
    "size_gb_next": "size_gb",
    "quant_next": "quant",
    "model_next": "model",
}
FILE_KEYS = ("size_gb", "quant")  # they describe the old file, so the new one does not inherit them


@dataclass(frozen=True, slots=True)
class PromoteResult:
    """The result of `promote`.

    Attributes:
        tiers: the old and the new model of each promoted tier.
        running: the stack is running, and applies the change at the next `restart`.
    """

    tiers: dict[str, tuple[str, str]]
    running: bool


def promote(trusted: TrustedProject, names: Sequence[str]) -> PromoteResult:
    """Replace models by their queued upgrades in models.ini, keeping its comments.

    Args:
        trusted: an installed project.
        names: tiers or aliases; if empty, every tier with a queued upgrade.

    Raises:
        LlmstackError: nothing is queued, or a named tier has no queued upgrade.
    """
    config, project = require_config(trusted), trusted.project
    tiers = _select_tiers(config, names)
    text = config.text
    for tier in tiers:
        text = promote_in_text(text, tier.name)
    edited = parse(text, str(project.models_ini), base=project.models_ini.parent)
    with exclusive_lock(project.lock, "promote"):
        trusted.write({project.models_ini: text, **dependent_files(trusted, edited)})
    models = {tier.name: (tier.model.label, edited.tiers[tier.name].model.label) for tier in tiers}
    return PromoteResult(models, running=running_router(project) is not None)


def _select_tiers(config: StackConfig, names: Sequence[str]) -> list[Tier]:
    if not names:
        return queued_tiers(config)
    tiers = []
    for name in names:
        tier = config.find(name)
        if tier is None or tier.next_model is None:
            candidates = ", ".join(each.name for each in config.tiers.values() if each.next_model) or "none"
            raise LlmstackError(f"`{name}` has no queued upgrade; tiers with one: {candidates}")
        tiers.append(tier)
    return tiers


def promote_in_text(text: str, tier: str) -> str:
    """Return the text of models.ini with one tier's queued upgrade as its model."""
    section = scan(text).find(tier)
    if section is None:
        raise LlmstackError(f"models.ini has no section [{tier}]")
    values = {entry.key: entry.value for entry in section.entries}
    for key in FILE_KEYS:
        if "hf_file_next" in values and f"{key}_next" not in values:
            text = remove_key(text, tier, key)
    for queued_key, key in QUEUED_KEYS.items():
        if queued_key in values:
            text = remove_key(set_value(text, tier, key, values[queued_key]), tier, queued_key)
    return text
