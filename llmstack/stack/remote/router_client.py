"""Talk to a running router from the command line.

Uses http.client: importing a larger HTTP library would take a quarter of the time that `status` takes.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from llmstack.errors import LlmstackError
from llmstack.router_proof import (
    CHALLENGE_PATH,
    is_same_proof,
    new_nonce,
    prove_key,
    prove_token,
    stretch_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPConnection
    from pathlib import Path

TIMEOUT_S = 5.0


class RouterUnreachableError(LlmstackError):
    """Nothing answers at the router's address."""


class RouterUnprovenError(LlmstackError):
    """What answers has not proved that it is the expected router; no secret was sent."""


class RouterSecret(Protocol):
    """What a client sends to a router to be let in, once the router has proved that it knows it too."""

    def verify(self, answer: Mapping[str, object], nonce: str, url: str) -> str:
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

    def verify(self, answer: Mapping[str, object], nonce: str, url: str) -> str:
        """Return the token."""
        port = urlsplit(url).port or 80
        try:
            # Read now, not earlier: the router writes it before it answers.
            token = self.path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise RouterUnprovenError(
                f"cannot prove that {url} is this project's router: {self.path}: {reason}",
                hint="run this as the user who started it, with the same XDG_STATE_HOME",
            ) from error
        if not is_same_proof(prove_token(token, nonce, port), answer.get("token")):
            raise RouterUnprovenError(
                f"what listens at {url} is not this project's router",
                hint="see what uses that port, or set another `router_port` in models.ini",
            )
        return token


@dataclass(frozen=True, slots=True)
class ClientKey:
    """The key that a router requires from its clients.

    Attributes:
        key: empty if there is none; then none is sent.
    """

    key: str

    def verify(self, answer: Mapping[str, object], nonce: str, url: str) -> str:
        """Return the key, or nothing for a router that requires none."""
        proof = answer.get("key")
        if proof is None or not self.key:
            return ""
        if not is_same_proof(prove_key(stretch_key(self.key), nonce), proof):
            raise RouterUnprovenError(
                f"{url} does not know the key in this terminal, so it was not sent",
                hint="export the router's own key, and check the address",
            )
        return self.key


class RouterClient:
    """A client of one router's own routes.

    Args:
        url: its address, such as `http://127.0.0.1:10101`.
        secret: what to send once the router has proved itself; None to send nothing.
    """

    def __init__(self, url: str, secret: RouterSecret | None = None) -> None:
        self.url = url
        self._secret = secret

    def authorize(self) -> dict[str, str]:
        """Return the headers that let a client of any kind in, after the router has proved itself.

        Raises:
            RouterUnreachableError: nothing answers.
            LlmstackError: what answers is not the expected router.
        """
        with self._connect(TIMEOUT_S) as connection:
            return self._prove(connection)

    def models_ini(self) -> str:
        """Return the text of its models.ini; also serves as the health check.

        Raises:
            RouterUnreachableError: nothing answers.
            LlmstackError: the router answers with an error.
        """
        return self._send("GET", "/models.ini", TIMEOUT_S)

    def status(self) -> dict[str, Any]:
        """Return `/llmstack/status`.

        Raises:
            RouterUnreachableError: nothing answers.
            LlmstackError: what answers is no llmstack router.
        """
        text = self._send("GET", "/llmstack/status", TIMEOUT_S)
        try:
            status: dict[str, Any] = json.loads(text)
            status["tiers"], status["work_dir"]
        except (ValueError, KeyError, TypeError) as error:
            raise LlmstackError(f"{self.url} answers, but is no llmstack router") from error
        return status

    def post(self, path: str, *, timeout_s: float, body: bytes | None = None) -> dict[str, Any]:
        """Send a command such as `/llmstack/load/<tier>` and return its result.

        Raises:
            RouterUnreachableError: nothing answers within `timeout_s` seconds.
            LlmstackError: the router answers with an error.
        """
        result: dict[str, Any] = json.loads(self._send("POST", path, timeout_s, body))
        return result

    def _send(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> str:
        with self._connect(timeout_s) as connection:
            headers = self._prove(connection)
            if body is not None:
                headers["content-type"] = "application/json"
            status, text = _exchange(connection, method, f"{urlsplit(self.url).path}{path}", body, headers)
        if status != HTTPStatus.OK:
            raise _response_error(self.url, status, text)
        return text

    @contextlib.contextmanager
    def _connect(self, timeout_s: float) -> Iterator[HTTPConnection]:
        """Yield one connection. Everything is sent over it: a new one could lead to another process.

        Raises:
            RouterUnreachableError: nothing answers, or not within `timeout_s` seconds.
        """
        import http.client  # noqa: PLC0415 - not needed if nothing runs

        url = urlsplit(self.url)
        connection_class = (
            http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        )
        connection = connection_class(url.hostname or "", url.port, timeout=timeout_s)
        try:
            connection.connect()
            connection.auto_open = 0
            yield connection
        except TimeoutError as error:
            raise RouterUnreachableError(
                f"{self.url} did not answer within {timeout_s:g} s", hint="see `llmstack logs router`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error
            raise RouterUnreachableError(f"nothing answers at {self.url}: {reason}") from error
        finally:
            connection.close()

    def _prove(self, connection: HTTPConnection) -> dict[str, str]:
        """Let the router prove itself on this connection; return the headers with the secret."""
        if self._secret is None or self._secret == ClientKey(""):
            return {}
        nonce = new_nonce()
        path = f"{urlsplit(self.url).path}{CHALLENGE_PATH}?nonce={nonce}"
        status, text = _exchange(connection, "GET", path, None, {})
        if status != HTTPStatus.OK:
            raise _response_error(self.url, status, text)
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            answer = None
        if not isinstance(answer, dict):
            raise RouterUnprovenError(f"{self.url} answers, but is no llmstack router")
        secret = self._secret.verify(answer, nonce, self.url)
        return {"authorization": f"Bearer {secret}"} if secret else {}


def _exchange(
    connection: HTTPConnection, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
) -> tuple[int, str]:
    """Send a request; return the status and the text of the response."""
    connection.request(method, path, body, dict(headers))
    response = connection.getresponse()
    return response.status, response.read().decode(errors="replace")


def _response_error(url: str, status: int, body: str) -> LlmstackError:
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return LlmstackError(f"{url} answered {status}: expected an llmstack router there")
    hint = "export the router's key in this terminal too" if status == HTTPStatus.UNAUTHORIZED else None
    return LlmstackError(message, hint=hint)
