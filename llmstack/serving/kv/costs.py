"""How long it takes to save, restore and read a prompt with one model. Pure, but for its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from llmstack.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

FIRST_TOKENS = 256  # before anything was measured, prompts of this size are saved to measure it
FIXED_S = 0.01  # for saving and restoring whatever the size: requests to the server, the note
DECAY = 0.7  # weight of earlier measurements against the latest one


@dataclass(slots=True)
class Costs:
    """Costs for each token; 0 if not measured yet.

    Attributes:
        save_s: seconds to write it to disk, with the digest.
        restore_s: seconds to check the digest and read it back.
        read_s: seconds for the model to read it as a prompt.
        token_bytes: its size on disk.
    """

    save_s: float = 0.0
    restore_s: float = 0.0
    read_s: float = 0.0
    token_bytes: float = 0.0

    def learn(self, cost: str, tokens: int, value: float) -> None:
        """Add a measurement of the named cost: `value` for so many tokens."""
        new, old = value / tokens, getattr(self, cost)
        setattr(self, cost, new if old == 0 else DECAY * old + (1 - DECAY) * new)

    def is_worth_saving(self, tokens: int) -> bool:
        """Return whether saving and restoring so many tokens takes less time than reading them again."""
        if self.save_s == 0 or self.read_s == 0:
            return tokens >= FIRST_TOKENS
        return self.read_s * tokens > FIXED_S + self._disk_s * tokens

    def save_seconds(self, tokens: int) -> float:
        """Return the seconds that saving so many tokens takes."""
        return FIXED_S / 2 + self.save_s * tokens

    @property
    def _disk_s(self) -> float:
        return self.save_s + (self.restore_s or self.save_s)


def load_costs(path: Path) -> Costs:
    """Return what earlier runs have measured."""
    try:
        stored = json.loads(path.read_text())
        return Costs(**{field.name: float(stored[field.name]) for field in fields(Costs)})
    except (OSError, ValueError, TypeError, KeyError):
        return Costs()


def store_costs(path: Path, costs: Costs) -> None:
    """Store the costs for the next run."""
    write_atomic(path, json.dumps(asdict(costs)))
