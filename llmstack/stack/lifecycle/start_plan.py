"""Everything that is verified before a stack is started."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import NEXT
from llmstack.config.network import require_router_key
from llmstack.errors import LlmstackError
from llmstack.serving.memory.survey import survey
from llmstack.stack.lifecycle.generated_files import find_llama_swap
from llmstack.stack.project import pinned_channel, queued_tiers, require_config

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel
    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.serving.memory.survey import Survey


@dataclass(frozen=True, slots=True)
class StartOptions:
    """How to start.

    Attributes:
        next: run the queued upgrades, whatever channel the project is pinned to.
        host: overrides `host` in models.ini.
        port: overrides `router_port` in models.ini.
        wait: wait until the preloaded tier is loaded.
    """

    next: bool = False
    host: str | None = None
    port: int | None = None
    wait: bool = True


@dataclass(frozen=True, slots=True)
class StartPlan:
    """A verified start. models.ini is read once: what was verified is what the start uses.

    Attributes:
        declared: models.ini as written, with current models and queued upgrades.
        config: models.ini on `channel`.
        channel: the channel to run.
        survey: what this machine can serve of `config`.
    """

    declared: StackConfig
    config: StackConfig
    channel: Channel
    survey: Survey


def verify_can_start(trusted: TrustedProject, env: Mapping[str, str], options: StartOptions) -> StartPlan:
    """Verify that a project may start and can start, without changing anything.

    Raises:
        LlmstackError: the project is not installed, the router would be open to the network, the requested
            swapper is missing, or no tier can start.
    """
    pinned = pinned_channel(trusted)
    declared = require_config(trusted)
    channel = NEXT if options.next else pinned
    if options.next:
        queued_tiers(declared)
    config = declared.for_channel(channel.local_channel)
    require_router_key(options.host or config.settings.host, config.settings, env)
    find_llama_swap(config, trusted.user)
    machine = survey(config, env)
    if len(machine.unavailable) == len(config.tiers):
        reasons = "".join(f"\n  {name}: {why}" for name, why in machine.unavailable.items())
        raise LlmstackError(f"no tier can start:{reasons}", hint="`llmstack check` shows files and memory")
    return StartPlan(declared, config, channel, machine)
