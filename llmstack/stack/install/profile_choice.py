"""Choosing the bundled profile that fits this machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.config import PROFILE_MEMORY_GB, SMALLEST_PROFILE, fitting_profile, parse, profile_text
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import find_engine
from llmstack.serving.memory.survey import memory_budget
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.paths import UserDirs
    from llmstack.serving.memory.budget import Budget
    from llmstack.serving.memory.hardware import Hardware


@dataclass(frozen=True, slots=True)
class ProfileChoice:
    """The profile for this machine.

    Attributes:
        profile: its name.
        reason: the memory of this machine and of the profile, in words.
        fits: False if even the smallest profile needs more memory than there is.
    """

    profile: str
    reason: str
    fits: bool


def choose_profile(user: UserDirs, env: Mapping[str, str], hardware: Hardware | None = None) -> ProfileChoice:
    """Return the largest profile that fits into this machine's memory for models, else the smallest one."""
    try:
        engine = find_engine(env)
    except LlmstackError:
        engine = None  # an engine installed later may use a graphics card
    text = profile_text(SMALLEST_PROFILE, demo_models=user.demo_models)
    smallest = parse(text, f"profile {SMALLEST_PROFILE}", base=user.data)
    return choose_for_budget(memory_budget(smallest, engine, env, hardware))


def choose_for_budget(budget: Budget) -> ProfileChoice:
    """Return the profile for a memory budget."""
    name = fitting_profile(budget.bytes / GB)
    available = f"models may have {budget.bytes / GB:.1f} GB here ({budget.origin})"
    if name is None:
        return ProfileChoice(
            SMALLEST_PROFILE,
            f"{available}, and the smallest profile needs {PROFILE_MEMORY_GB[SMALLEST_PROFILE]:g} GB",
            fits=False,
        )
    return ProfileChoice(name, f"{available}, and it needs {PROFILE_MEMORY_GB[name]:g} GB", fits=True)
