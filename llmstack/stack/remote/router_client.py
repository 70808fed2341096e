"""Talking to a running router from the command line.

With http.client: importing a larger HTTP library would be a quarter of what `status` takes.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

from llmstack.errors import LlmstackError

TIMEOUT_S = 5.0
OK, UNAUTHORIZED = 200, 401


class RouterUnreachableError(LlmstackError):
    """Nothing answers at the router's address."""


class RouterClient:
    """One router's own routes.

    Args:
        url: its address, such as `http://127.0.0.1:10101`.
        api_key: what it wants from clients; empty for none.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url
        self.api_key = api_key

    def models_ini(self) -> str:
        """Return its raw configuration; that it comes is the health check."""
        return self._send("GET", "/models.ini", TIMEOUT_S)

    def status(self) -> dict[str, Any]:
        """Return `/llmstack/status`.

        Raises:
            LlmstackError: it does not answer, or is no llmstack router.
        """
        answer = self._send("GET", "/llmstack/status", TIMEOUT_S)
        try:
            status: dict[str, Any] = json.loads(answer)
            status["tiers"], status["work_dir"]
        except (ValueError, KeyError, TypeError) as error:
            raise LlmstackError(f"{self.url} answers, but is no llmstack router") from error
        return status

    def post(self, path: str, *, timeout_s: float, body: bytes | None = None) -> dict[str, Any]:
        """Give a command such as `/llmstack/load/<tier>`; wait up to `timeout_s` seconds."""
        answer: dict[str, Any] = json.loads(self._send("POST", path, timeout_s, body))
        return answer

    def _send(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> str:
        import http.client  # noqa: PLC0415 - not needed where nothing runs

        where = urlsplit(self.url)
        kind = http.client.HTTPSConnection if where.scheme == "https" else http.client.HTTPConnection
        connection = kind(where.hostname or "", where.port, timeout=timeout_s)
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, f"{where.path}{path}", body, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
        except TimeoutError as error:
            raise RouterUnreachableError(
                f"{self.url} did not answer within {timeout_s:g} s", hint="see `llmstack logs router`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or error
            raise RouterUnreachableError(f"nothing answers at {self.url}: {why}") from error
        finally:
            connection.close()
        if answer.status != OK:
            raise _as_error(self.url, answer.status, text)
        return text


def _as_error(url: str, status: int, body: str) -> LlmstackError:
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return LlmstackError(f"{url} answered {status}: expected an llmstack router there")
    hint = "export the router's key in this terminal too" if status == UNAUTHORIZED else None
    return LlmstackError(message, hint=hint)
