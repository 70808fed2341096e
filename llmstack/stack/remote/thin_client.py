"""The commands of a project that uses the router of another: verified and asked, never started or kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.hub.audit import Finding
from llmstack.stack.check import Checked, TierCheck
from llmstack.stack.install.install import render_remote
from llmstack.stack.remote.remote_router import fetch
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project


@dataclass(frozen=True, slots=True)
class Verified:
    """A router that answers: its address and the names of its tiers."""

    url: str
    tiers: tuple[str, ...]


def verify(project: Project, store: Path, env: Mapping[str, str], url: str) -> Verified:
    """Return what the router serves; the project must be trusted, as it says where requests go.

    Raises:
        LlmstackError: the project is not trusted, or the router cannot be used.
    """
    trust_store.require(project, store)
    return Verified(url, tuple(fetch(url, env).config.tiers))


def check(project: Project, env: Mapping[str, str], url: str) -> Checked:
    """Return the router's view, and whether this project's opencode.json still fits it."""
    remote = fetch(url, env)
    problems = []
    try:
        fits = project.opencode_json.read_text(encoding="utf-8") == render_remote(project, remote)
    except OSError as error:
        raise LlmstackError(f"cannot read {project.opencode_json}: {error.strerror or error}") from error
    if not fits:
        message = f"opencode.json is not what {url} serves now"
        problems.append(Finding(None, message, "fetch it again: `llmstack reload`", "warning"))
    return Checked(
        source=f"{url}/models.ini",
        engine=None,
        budget_bytes=0,
        budget_origin="",
        tiers=_tiers(remote.config),
        combinations=[],
        problems=problems,
    )


def _tiers(config: StackConfig) -> list[TierCheck]:
    return [
        TierCheck(
            name=tier.name,
            backend=tier.backend,
            file=tier.model.label,
            on_disk=None,
            size_bytes=None,
            need=None,
            kv_known=False,
            drift=None,
            next=tier.queued.label if tier.queued is not None else None,
            next_on_disk=None,
            fits=None,
            hub=None,
        )
        for tier in config.tiers.values()
    ]
