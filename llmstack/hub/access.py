"""How this environment reaches the model hub: the address, the token, whether it may be asked at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ENDPOINT = "https://huggingface.co"
_YES = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, slots=True)
class HubAccess:
    """`HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN`, as huggingface-hub reads them."""

    endpoint: str
    offline: bool
    named_token: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> HubAccess:
        """Return what the environment says."""
        return cls(
            endpoint=(env.get("HF_ENDPOINT") or ENDPOINT).rstrip("/"),
            offline=env.get("HF_HUB_OFFLINE", "").upper() in _YES,
            named_token=env.get("HF_TOKEN"),
        )

    def page(self, repo: str) -> str:
        """Return the address of a repository for people."""
        return f"{self.endpoint}/{repo}"

    def token(self) -> str | None:
        """Return the user's token: `HF_TOKEN`, else what `hf auth login` stored."""
        from huggingface_hub import get_token  # noqa: PLC0415 - 0.2 s that only asking the hub should cost

        return self.named_token or get_token()
