"""Apply an edited models.ini to the running stack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import exclusive_lock
from llmstack.stack.install.project_files import render_opencode
from llmstack.stack.lifecycle.generated_files import render_litellm, replaced_llama_swap_yaml
from llmstack.stack.project import (
    active_channel,
    make_client,
    require_config,
    router_address,
    running_router,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.trusted import TrustedProject

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


def reload_stack(trusted: TrustedProject, env: Mapping[str, str]) -> ReloadResult:
    """Make the running router read models.ini again, and write the files that follow from it.

    Args:
        trusted: the project.
        env: for the survey of this machine.

    Raises:
        LlmstackError: nothing runs; or the file is wrong or needs a restart, and nothing has changed.
    """
    config = require_config(trusted)
    project = trusted.project
    daemon = running_router(project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    client = make_client(trusted, router_address(daemon, config))
    with exclusive_lock(project.lock, "reload"):
        channel_config = config.for_channel(active_channel(trusted).local_channel)
        # The router compares it with the one that runs.
        trusted = trusted.write(render_litellm(trusted, config))
        with replaced_llama_swap_yaml(trusted, channel_config, env, router_port=daemon.port):
            response = client.reload(TIMEOUT_S)
        trusted.write({project.opencode_json: render_opencode(project, config)})
    return ReloadResult(response.changed, response.unavailable, response.cut)
