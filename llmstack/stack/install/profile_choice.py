"""Which bundled profile fits this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config import MACHINES, SMALLEST, fitting_profile, parse, profile_text
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import find_engine
from llmstack.serving.memory.footprint import GB
from llmstack.serving.memory.survey import memory_budget

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.paths import UserDirs
    from llmstack.serving.memory.budget import Budget
    from llmstack.serving.memory.hardware import Hardware


@dataclass(frozen=True, slots=True)
class ProfileChoice:
    """A profile for this machine.

    Attributes:
        profile: its name.
        why: what it was chosen by.
        fits: False where even the smallest wants more than there is.
    """

    profile: str
    why: str
    fits: bool


def propose_profile(
    user: UserDirs, env: Mapping[str, str], hardware: Hardware | None = None
) -> ProfileChoice:
    """Return the largest profile that this machine's memory for models holds, else the smallest."""
    try:
        engine = find_engine(env)
    except LlmstackError:
        engine = None  # nothing can start yet; what comes may use a graphics card
    text = profile_text(SMALLEST, demo_models=user.demo_models)
    smallest = parse(text, f"profile {SMALLEST}", base=user.data)
    return proposal(memory_budget(smallest, engine, env, hardware))


def proposal(budget: Budget) -> ProfileChoice:
    """Return the profile for a budget."""
    name = fitting_profile(budget.bytes / GB)
    there = f"models may have {budget.bytes / GB:.1f} GB here ({budget.origin})"
    if name is None:
        return ProfileChoice(
            SMALLEST, f"{there}, and the smallest profile wants {MACHINES[SMALLEST]:g} GB", fits=False
        )
    return ProfileChoice(name, f"{there}, and it wants {MACHINES[name]:g} GB", fits=True)
