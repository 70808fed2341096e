"""Making the running stack take up an edited models.ini."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.files import exclusive
from llmstack.stack.install.install import refresh
from llmstack.stack.lifecycle.generated_files import llama_swap_exchanged, write_litellm
from llmstack.stack.project import active_channel, client_of_own, local_config, running_router
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.paths import Project

WAIT_S = 120.0  # llama-swap is drained for a bounded time first


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What `reload` did.

    Attributes:
        changed: tiers that are new, gone or different.
        unavailable: tiers that cannot start, with reason and remedy.
        cut: requests that did not end in time, in words.
    """

    changed: list[str]
    unavailable: dict[str, str]
    cut: list[str]


def reload(project: Project, env: Mapping[str, str], store: Path) -> Reloaded:
    """Let the running router read models.ini again, and refresh opencode.json.

    Raises:
        LlmstackError: the file is wrong or needs a restart, and nothing has changed; or nothing runs.
    """
    config = local_config(project)  # first: mistakes are shown with all their lines
    trust_store.require(project, store)
    daemon = running_router(project)
    if daemon is None:
        raise LlmstackError("the stack is not running", hint="start it with `llmstack start`")
    client = client_of_own(daemon, config, env)
    with exclusive(project.lock, "reload"):
        running = config.on(active_channel(project).runs)
        write_litellm(project, store, config)  # the router looks whether it changed
        with llama_swap_exchanged(project, running, env, router_port=daemon.port):
            done = client.post("/llmstack/reload", timeout_s=WAIT_S)
        refresh(project, store, config)
    return Reloaded(list(done["changed"]), dict(done["unavailable"]), list(done["cut"]))
