"""What saving, restoring and reading a prompt take with one model, as measured. Pure but for its file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

from llmstack.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

FIRST_TOKENS = 256  # where nothing was measured yet, this much is saved to measure it
FIXED_S = 0.01  # of saving and restoring, whatever the size: requests to the server, the note
FADE = 0.7  # what earlier measurements count, beside the latest


@dataclass(slots=True)
class Costs:
    """Seconds for each token; 0 where it was not measured yet.

    Attributes:
        save_s: of writing to disk and of the digest.
        restore_s: of checking the digest and of reading back.
        read_s: of reading it as a prompt, by the model.
        token_bytes: of one token on disk.
    """

    save_s: float = 0.0
    restore_s: float = 0.0
    read_s: float = 0.0
    token_bytes: float = 0.0

    def learn(self, what: str, tokens: int, value: float) -> None:
        """Take in one measurement: `value` for so many tokens."""
        new, old = value / tokens, getattr(self, what)
        setattr(self, what, new if old == 0 else FADE * old + (1 - FADE) * new)

    def saves(self, tokens: int) -> bool:
        """Return whether saving and restoring so many tokens takes less time than reading them again."""
        if self.save_s == 0 or self.read_s == 0:
            return tokens >= FIRST_TOKENS
        return self.read_s * tokens > FIXED_S + self._disk_s * tokens

    def saving_takes(self, tokens: int) -> float:
        """Return the seconds that saving so many tokens takes."""
        return FIXED_S / 2 + self.save_s * tokens

    @property
    def _disk_s(self) -> float:
        return self.save_s + (self.restore_s or self.save_s)


def load_costs(path: Path) -> Costs:
    """Return what an earlier run has measured."""
    try:
        kept = json.loads(path.read_text())
        return Costs(**{field.name: float(kept[field.name]) for field in fields(Costs)})
    except (OSError, ValueError, TypeError, KeyError):
        return Costs()


def store_costs(path: Path, costs: Costs) -> None:
    """Keep it for the next run."""
    write_atomic(path, json.dumps(asdict(costs)))
