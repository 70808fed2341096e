"""The address, token and offline switch with which this environment reaches the model hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_ENDPOINT = "https://huggingface.co"
_TRUE_VALUES = {"1", "ON", "YES", "TRUE"}


@dataclass(frozen=True, slots=True)
class HubAccess:
    """`HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HF_TOKEN`, with the meaning they have for huggingface_hub."""

    endpoint: str
    offline: bool
    env_token: str | None

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> HubAccess:
        """Read the environment variables."""
        return cls(
            endpoint=(env.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/"),
            offline=env.get("HF_HUB_OFFLINE", "").upper() in _TRUE_VALUES,
            env_token=env.get("HF_TOKEN"),
        )

    def repo_url(self, repo: str) -> str:
        """Return the web page of a repository."""
        return f"{self.endpoint}/{repo}"

    def token(self) -> str | None:
        """Return `HF_TOKEN`, else the token that `hf auth login` stored, else None."""
        from huggingface_hub import get_token  # noqa: PLC0415 - the import takes 0.2 s

        return self.env_token or get_token()
