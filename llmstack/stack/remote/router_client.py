"""Talk to a running router from the command line.

Uses http.client: importing a larger HTTP library would take a quarter of the time that `status` takes.
"""

from __future__ import annotations

import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote, urlsplit

from llmstack.errors import LlmstackError
from llmstack.router_proof import CHALLENGE_PATH, new_nonce

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPConnection

    import msgspec

    from llmstack.stack.remote.router_documents import ReloadDocument, RouteDocument, StatusDocument
    from llmstack.stack.remote.router_secrets import RouterSecret

    D = TypeVar("D", bound=msgspec.Struct)

TIMEOUT_S = 5.0


class RouterUnreachableError(LlmstackError):
    """Nothing answers at the router's address."""


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
            return self._prove(connection, TIMEOUT_S)

    def models_ini(self) -> str:
        """Return the text of its models.ini; also serves as the health check.

        Raises:
            RouterUnreachableError: nothing answers.
            LlmstackError: the router answers with an error.
        """
        return self._send("GET", "/models.ini", TIMEOUT_S)

    def status(self) -> StatusDocument:
        """Return `/llmstack/status`.

        Raises:
            RouterUnreachableError: nothing answers.
            LlmstackError: what answers is no llmstack router.
        """
        from llmstack.stack.remote.router_documents import StatusDocument, decode  # noqa: PLC0415 - as below

        return decode(self.url, self._send("GET", "/llmstack/status", TIMEOUT_S), StatusDocument)

    def load(self, tier: str, timeout_s: float) -> str:
        """Load a tier, by its name or an alias; return its name.

        Raises:
            RouterUnreachableError: nothing answers within `timeout_s` seconds.
            LlmstackError: the router answers with an error.
        """
        from llmstack.stack.remote.router_documents import LoadDocument  # noqa: PLC0415 - as below

        return self._post(f"/llmstack/load/{quote(tier, safe='')}", timeout_s, LoadDocument).tier

    def unload(self, tier: str | None, timeout_s: float) -> list[str]:
        """Unload a tier, or every tier; return the names of those that were loaded.

        Raises:
            RouterUnreachableError: nothing answers within `timeout_s` seconds.
            LlmstackError: the router answers with an error.
        """
        from llmstack.stack.remote.router_documents import UnloadDocument  # noqa: PLC0415 - as below

        path = "/llmstack/unload" if tier is None else f"/llmstack/unload/{quote(tier, safe='')}"
        return self._post(path, timeout_s, UnloadDocument).unloaded

    def reload(self, timeout_s: float) -> ReloadDocument:
        """Apply an edited models.ini.

        Raises:
            RouterUnreachableError: nothing answers within `timeout_s` seconds.
            LlmstackError: the router answers with an error.
        """
        from llmstack.stack.remote.router_documents import ReloadDocument  # noqa: PLC0415 - as below

        return self._post("/llmstack/reload", timeout_s, ReloadDocument)

    def route(self, question: bytes, timeout_s: float) -> RouteDocument:
        """Return where a request would go.

        Raises:
            RouterUnreachableError: nothing answers within `timeout_s` seconds.
            LlmstackError: the router answers with an error.
        """
        from llmstack.stack.remote.router_documents import RouteDocument  # noqa: PLC0415 - as below

        return self._post("/llmstack/route", timeout_s, RouteDocument, question)

    def _post(self, path: str, timeout_s: float, kind: type[D], body: bytes | None = None) -> D:
        from llmstack.stack.remote.router_documents import decode  # noqa: PLC0415 - as below

        return decode(self.url, self._send("POST", path, timeout_s, body), kind)

    def _send(self, method: str, path: str, timeout_s: float, body: bytes | None = None) -> str:
        with self._connect(timeout_s) as connection:
            headers = self._prove(connection, min(timeout_s, TIMEOUT_S))
            if body is not None:
                headers["content-type"] = "application/json"
            return self._exchange(connection, method, path, timeout_s, body=body, headers=headers)

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

    def _prove(self, connection: HTTPConnection, timeout_s: float) -> dict[str, str]:
        """Let the router prove itself on this connection; return the headers with the secret."""
        from llmstack.stack.remote.router_documents import ChallengeDocument, decode  # noqa: PLC0415 - as below

        if self._secret is None:
            return {}
        nonce = new_nonce()
        text = self._exchange(connection, "GET", f"{CHALLENGE_PATH}?nonce={nonce}", timeout_s)
        if connection.sock is None:
            raise LlmstackError(
                f"{self.url} closed the connection after one answer, so no key was sent",
                hint="a proxy in front of the router must keep connections open",
            )
        secret = self._secret.verify(decode(self.url, text, ChallengeDocument), nonce, self.url)
        return {"authorization": f"Bearer {secret}"} if secret else {}

    def _exchange(
        self,
        connection: HTTPConnection,
        method: str,
        path: str,
        timeout_s: float,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Send a request over a connection; return the body of the response.

        Raises:
            LlmstackError: the response is an error.
        """
        from llmstack.stack.remote.bounded_response import read_response  # noqa: PLC0415 - as above
        from llmstack.stack.remote.router_documents import response_error  # noqa: PLC0415 - as above

        connection.request(method, f"{urlsplit(self.url).path}{path}", body, dict(headers or {}))
        status, text = read_response(connection, timeout_s)
        if status != HTTPStatus.OK:
            raise response_error(self.url, status, text)
        return text
