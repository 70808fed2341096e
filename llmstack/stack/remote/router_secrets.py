"""The secrets that a command sends to a router, once the router has proved that it knows them, too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from llmstack.errors import LlmstackError
from llmstack.router_proof import is_same_proof, prove_key, prove_token, stretch_key

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.stack.remote.router_documents import ChallengeDocument


class RouterSecret(Protocol):
    """What a client sends to a router to be let in, once the router has proved that it knows it too."""

    def verify(self, answer: ChallengeDocument, nonce: str, url: str) -> str:
        """Return the secret if the router's answer to a challenge proves that it knows it; empty for none.

        Raises:
            LlmstackError: it does not.
        """


@dataclass(frozen=True, slots=True)
class OwnerToken:
    """The token of the project's own router.

    Attributes:
        path: the file that the router has written at its start, readable by its owner only.
    """

    path: Path

    def verify(self, answer: ChallengeDocument, nonce: str, url: str) -> str:
        """Return the token."""
        port = urlsplit(url).port or 80
        try:
            # Read now, not earlier: the router writes it before it answers.
            token = self.path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise LlmstackError(
                f"cannot prove that {url} is this project's router: {self.path}: {reason}",
                hint="run this as the user who started it, with the same XDG_STATE_HOME",
            ) from error
        if not is_same_proof(prove_token(token, nonce, port), answer.token):
            raise LlmstackError(
                f"what listens at {url} is not this project's router",
                hint="see what uses that port, or set another `router_port` in models.ini",
            )
        return token


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The key that a router requires from its clients.

    Attributes:
        key: not empty.
    """

    key: str

    def verify(self, answer: ChallengeDocument, nonce: str, url: str) -> str:
        """Return the key, or nothing for a router that requires none."""
        proof = answer.key
        if proof is None:
            return ""
        if not is_same_proof(prove_key(stretch_key(self.key), nonce), proof):
            raise LlmstackError(
                f"{url} does not know the key in this terminal, so it was not sent",
                hint="export the router's own key, and check the address",
            )
        return self.key
