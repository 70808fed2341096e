"""The files of a project that llmstack generates: opencode.json, AGENTS.md, .gitignore, LiteLLM's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.files import write_atomic
from llmstack.generators.opencode import agents_md, render
from llmstack.stack.lifecycle.generated_files import write_litellm
from llmstack.stack.project import router_address, running_router
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.stack.remote.remote_router import RemoteRouter

GITIGNORE = "*\n!.gitignore\n!models.ini\n!litellm_config.yaml\n"


def write_client_files(project: Project, opencode_json: str) -> list[Path]:
    """Write the files that clients read, and .gitignore, and return their paths."""
    files = {
        project.gitignore: GITIGNORE,
        project.agents_md: agents_md(),
        project.opencode_json: opencode_json,
    }
    for path, content in files.items():
        write_atomic(path, content)
    return [*files]


def regenerate_files(
    project: Project, trust_file: Path, config: StackConfig, *, models_ini: str | None = None
) -> None:
    """Write the files that depend on models.ini again. A trusted project stays trusted.

    The caller holds the project's lock.

    Args:
        project: an installed project.
        trust_file: the list of trusted projects.
        config: what models.ini says.
        models_ini: the new text of models.ini; None to leave it unchanged.
    """
    trusted = trust_store.check(project, trust_file).verdict is trust_store.Verdict.TRUSTED
    write_litellm(project, trust_file, config)
    if models_ini is not None:
        write_atomic(project.models_ini, models_ini)
    write_atomic(project.opencode_json, render_opencode(project, config))
    if trusted:
        trust_store.grant(project, trust_file)


def render_opencode(project: Project, config: StackConfig, *, more_instructions: tuple[str, ...] = ()) -> str:
    """Return the opencode.json of a project with its own router."""
    return render(
        config,
        base_url=router_address(running_router(project), config).url,
        instructions=str(project.agents_md),
        more_instructions=more_instructions,
    )


def render_remote(project: Project, remote: RemoteRouter, *, more_instructions: tuple[str, ...] = ()) -> str:
    """Return the opencode.json of a thin client."""
    return render(
        remote.config,
        base_url=remote.url,
        instructions=str(project.agents_md),
        more_instructions=more_instructions,
    )
