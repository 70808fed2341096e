"""Talk to a running router from the command line.

Uses http.client: importing a larger HTTP library would take a quarter of the time that `status` takes.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

from llmstack.errors import LlmstackError

TIMEOUT_S = 5.0


class RouterUnreachableError(LlmstackError):
    """Nothing answers at the router's address."""


class RouterClient:
    """A client of one router's own routes.

    Args:
        url: its address, such as `http://127.0.0.1:10101`.
        api_key: the key it requires from clients; empty for none.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self.url = url
        self.api_key = api_key

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
        import http.client  # noqa: PLC0415 - not needed if nothing runs

        url = urlsplit(self.url)
        connection_class = (
            http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
        )
        connection = connection_class(url.hostname or "", url.port, timeout=timeout_s)
        headers = {"authorization": f"Bearer {self.api_key}"} if self.api_key else {}
        if body is not None:
            headers["content-type"] = "application/json"
        try:
            connection.request(method, f"{url.path}{path}", body, headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
        except TimeoutError as error:
            raise RouterUnreachableError(
                f"{self.url} did not answer within {timeout_s:g} s", hint="see `llmstack logs router`"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error
            raise RouterUnreachableError(f"nothing answers at {self.url}: {reason}") from error
        finally:
            connection.close()
        if response.status != HTTPStatus.OK:
            raise _response_error(self.url, response.status, text)
        return text


def _response_error(url: str, status: int, body: str) -> LlmstackError:
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return LlmstackError(f"{url} answered {status}: expected an llmstack router there")
    hint = "export the router's key in this terminal too" if status == HTTPStatus.UNAUTHORIZED else None
    return LlmstackError(message, hint=hint)
