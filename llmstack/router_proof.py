"""How a router proves to a client that it is the expected one, before the client sends it a secret.

The client sends a random nonce to `GET /llmstack/challenge`. The router answers with an HMAC of it under each
secret that both should know: its token, a file that only the owner of the project can read, and the key that
clients send, if it requires one. Whoever merely took the router's port knows neither.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass

CHALLENGE_PATH = "/llmstack/challenge"
NONCE_BYTES = 32
# A key is chosen by a person, and anybody may ask for proofs: make guesses slow. About 50 ms and 16 MB (RFC
# 7914, section 2, with the parameters for interactive use).
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 2**14, 8, 1
_SALT = b"llmstack router key"


def new_token() -> str:
    """Return a router's token for one run: 256 random bits."""
    return secrets.token_urlsafe(32)


def new_nonce() -> str:
    """Return a nonce for one challenge, in hexadecimal."""
    return secrets.token_hex(NONCE_BYTES)


def is_nonce(text: str) -> bool:
    """Return whether a text is a nonce."""
    return len(text) == 2 * NONCE_BYTES and all(char in "0123456789abcdef" for char in text)


def stretch_key(key: str) -> bytes:
    """Return the secret that is derived from a key of clients; slow on purpose."""
    data = key.encode(errors="surrogateescape")
    return hashlib.scrypt(data, salt=_SALT, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)


def prove_token(token: str, nonce: str, port: int) -> str:
    """Return the proof of a router on this port; another process cannot pass it on from another port."""
    return _sign(token.encode(), f"token {nonce} {port}")


def prove_key(stretched: bytes, nonce: str) -> str:
    """Return the proof that a router knows a key.

    It names no port, since a tunnel or proxy may lead to the router.
    """
    return _sign(stretched, f"key {nonce}")


def is_same_proof(expected: str, actual: object) -> bool:
    """Return whether a proof is the expected one."""
    return isinstance(actual, str) and hmac.compare_digest(expected.encode(), actual.encode())


def _sign(secret: bytes, text: str) -> str:
    return hmac.new(secret, f"llmstack router {text}".encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class RouterIdentity:
    """What a router proves.

    Attributes:
        token: of this run.
        port: the port it listens on.
        stretched_key: derived from the key it requires from clients; None if it requires none.
    """

    token: str
    port: int
    stretched_key: bytes | None

    def answer(self, nonce: str) -> dict[str, str | None]:
        """Return the answer to a challenge."""
        key = prove_key(self.stretched_key, nonce) if self.stretched_key is not None else None
        return {"token": prove_token(self.token, nonce, self.port), "key": key}
