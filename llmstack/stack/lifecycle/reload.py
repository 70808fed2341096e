"""Apply an edited models.ini to the running stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock
from llmstack.stack.install.project_files import regenerate_files
from llmstack.stack.lifecycle.generated_files import replaced_llama_swap_yaml, write_litellm
from llmstack.stack.project import active_channel, load_config, make_client, running_router
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project

TIMEOUT_S = 120.0  # llama-swap's requests are drained first, for a bounded time


@dataclass(frozen=True, slots=True)
class ReloadResult:
    """What `reload_stack` did.

    Attributes:
        changed: names of tiers that were added, removed or changed.
        unavailable: tiers that cannot start, with reason and remedy.
        cut: a sentence about each tier whose requests did not end in time.
    """

    changed: list[str]
    unavailable: dict[str, str]
    cut: list[str]


def reload_stack(
    project: Project, env: Mapping[str, str], trust_file: Path, *, config: StackConfig | None = None
) -> ReloadResult:
    """Make the running router read models.ini again, and write the files that follow from it.

    Args:
        project: the project.
        env: for the router's key.
        trust_file: the list of trusted projects.
        config: models.ini, if the caller has parsed it already.

    Raises:
        LlmstackError: nothing runs; or the file is wrong or needs a restart, and nothing has changed.
    """
    # Before trust: whoever edits the file sees all its mistakes, with their lines.
    config = config or load_config(project)
    trust_store.require(project, trust_file)
    daemon = running_router(project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    client = make_client(daemon, config, env)
    with exclusive_lock(project.lock, "reload"):
        channel_config = config.for_channel(active_channel(project).local_channel)
        write_litellm(project, trust_file, config)  # the router compares it with the one that runs
        with replaced_llama_swap_yaml(project, channel_config, env, router_port=daemon.port):
            response = client.post("/llmstack/reload", timeout_s=TIMEOUT_S)
        regenerate_files(project, trust_file, config)
    return ReloadResult(list(response["changed"]), dict(response["unavailable"]), list(response["cut"]))
