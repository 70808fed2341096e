"""The files of a project that llmstack generates: opencode.json, AGENTS.md, .gitignore, LiteLLM's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.generators.opencode import agents_md, render
from llmstack.stack.lifecycle.generated_files import render_litellm
from llmstack.stack.project import router_address, running_router

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import Project
    from llmstack.stack.remote.remote_router import RemoteRouter

GITIGNORE = "*\n!.gitignore\n!models.ini\n!litellm_config.yaml\n"


def client_files(project: Project, opencode_json: str) -> dict[Path, str]:
    """Return the text of the files that clients read, and of .gitignore, by path."""
    return {
        project.gitignore: GITIGNORE,
        project.agents_md: agents_md(),
        project.opencode_json: opencode_json,
    }


def dependent_files(trusted: TrustedProject, config: StackConfig) -> dict[Path, str]:
    """Return the text of the files that depend on models.ini, by path; `config` is what it says."""
    opencode_json = render_opencode(trusted.project, config)
    return {**render_litellm(trusted, config), trusted.project.opencode_json: opencode_json}


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
