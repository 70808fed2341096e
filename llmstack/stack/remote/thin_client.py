"""The commands of a project that uses another project's router: nothing is started or cached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.hub.audit import CheckProblem
from llmstack.stack.check import CheckResult, TierCheck
from llmstack.stack.install.project_files import render_remote
from llmstack.stack.remote.remote_router import fetch_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """A router that answers: its address and the names of its tiers."""

    url: str
    tiers: tuple[str, ...]


def verify_router(url: str, env: Mapping[str, str]) -> VerifyResult:
    """Verify that the router answers.

    Raises:
        LlmstackError: the router cannot be used.
    """
    return VerifyResult(url, tuple(fetch_router(url, env).config.tiers))


def check_thin_client(project: Project, env: Mapping[str, str], url: str) -> CheckResult:
    """Return what the router serves, and whether this project's opencode.json is up to date with it.

    Raises:
        LlmstackError: the router cannot be used, or opencode.json cannot be read.
    """
    remote = fetch_router(url, env)
    try:
        text = project.opencode_json.read_text(encoding="utf-8")
    except OSError as error:
        raise LlmstackError(f"cannot read {project.opencode_json}: {error.strerror or error}") from error
    problems = []
    if text != render_remote(project, remote):
        message = f"opencode.json differs from what {url} serves now"
        problems.append(CheckProblem(None, message, "fetch it again: `llmstack reload`", "warning"))
    return CheckResult(
        source=f"{url}/models.ini",
        engine=None,
        budget_bytes=0,
        budget_origin="",
        tiers=_check_tiers(remote.config),
        combinations=[],
        problems=problems,
    )


def _check_tiers(config: StackConfig) -> list[TierCheck]:
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
            next=tier.next_model.label if tier.next_model is not None else None,
            next_on_disk=None,
            fits=None,
            hub=None,
        )
        for tier in config.tiers.values()
    ]
