"""The router's application: checks each request, and answers it here or forwards it."""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from llmstack.process.worker import MAX_BYTES_HERE, is_large
from llmstack.router.access_log import AccessRecord
from llmstack.router.admin.admin_api import admin_api
from llmstack.router.dialects.openai import Untranslated
from llmstack.router.dialects.table import dialects
from llmstack.router.error_responses import respond_error, send_failure
from llmstack.router.forward import forward
from llmstack.router.http.asgi import answer_with
from llmstack.router.http.request_body import BodyTooLargeError, ClientGoneError
from llmstack.router.keepalive import WaitTimeouts
from llmstack.router.routed_request import RequestIds, to_ascii
from llmstack.router.routing import parse_large, plan
from llmstack.router_proof import CHALLENGE_PATH
from llmstack.serving.errors import OUT_OF_FILES, FailureReport, RequestFailedError, is_out_of_files
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmstack.router.dialects.base import Dialect
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.router.service import Service

MAX_BODY = 64 * MB
LOG_INTERVAL_S = 60.0  # between two log lines about the same lack
SHOWN_PATH_CHARS = 200  # of a path, in the log and the status

_STOPPING = FailureReport(
    HTTPStatus.SERVICE_UNAVAILABLE, "router_stopping", "the router is stopping", retry_after=5
)
_BUG = FailureReport(
    HTTPStatus.INTERNAL_SERVER_ERROR, "internal_error", "internal error, see the router's log"
)

_log = logging.getLogger(__name__)


class RouterApp:
    """The router's application.

    Args:
        make_service: builds the router's state once the event loop runs.
        timeouts: how long a request waits for something.
    """

    def __init__(
        self, make_service: Callable[[], Awaitable[Service]], timeouts: WaitTimeouts | None = None
    ) -> None:
        self._make_service = make_service
        self._timeouts = timeouts or WaitTimeouts()
        self._service: Service | None = None
        self._admin = admin_api(lambda: self.service)
        self._dialects = dialects()
        self._default_dialect: Dialect = Untranslated()  # formats the errors of all other paths
        self._served: set[Exchange] = set()
        self._ids = RequestIds()
        self._draining = False
        self._may_log_files_at = 0.0  # when the log may say again that no more files can be opened

    @property
    def service(self) -> Service:
        """The router's state, which exists after start-up."""
        if self._service is None:
            raise RuntimeError("the router has not started")
        return self._service

    async def start(self) -> None:
        """Build the router's state, and start to load the model that is preloaded."""
        self._service = await self._make_service()
        if self._service.preloaded is not None:
            self._service.load_in_background(self._service.preloaded)

    async def close(self) -> None:
        """Stop the model servers and close every connection to them."""
        if self._service is not None:
            await self._service.close()

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        dialect = self._dialects.get(exchange.path, self._default_dialect)
        refusal = self.service.auth.check(exchange.headers)
        if refusal is not None and not self._is_challenge(exchange, refusal):
            unauthorized = refusal.status == HTTPStatus.UNAUTHORIZED
            headers = [("www-authenticate", "Bearer")] if unauthorized else []
            respond_error(exchange, dialect, refusal, headers)
            return
        try:
            body = await exchange.body(MAX_BODY)
        except BodyTooLargeError:
            text = f"the body is larger than {MAX_BODY // MB} MB"
            report = FailureReport(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", text)
            respond_error(exchange, dialect, report, [])
        except ClientGoneError:
            pass
        else:
            if exchange.path in self._admin.paths or exchange.path.startswith("/llmstack/"):
                if len(body) > MAX_BYTES_HERE:
                    text = f"the body is larger than {MAX_BYTES_HERE // MB} MB, the limit of {exchange.path}"
                    report = FailureReport(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body_too_large", text)
                    respond_error(exchange, dialect, report, [])
                    return
                await answer_with(self._admin.app, exchange, body)
            else:
                await self._serve(exchange, dialect, body)

    @staticmethod
    def _is_challenge(exchange: Exchange, refusal: FailureReport) -> bool:
        """Return whether a request without the key asks for the proof that must come before the key."""
        return exchange.path == CHALLENGE_PATH and refusal.status == HTTPStatus.UNAUTHORIZED

    def error_body(self, status: int, code: str, text: str) -> bytes:
        """Return the body of the response to something that is not even an HTTP request."""
        return self._default_dialect.error(FailureReport(status, code, text))

    def drain(self) -> None:
        """End every request in flight, each with an error that its client understands."""
        self._draining = True
        for exchange in self._served:
            exchange.cancel()

    async def _serve(self, exchange: Exchange, dialect: Dialect, body: bytes) -> None:
        """Answer a request for as long as its client is connected."""
        exchange.on_client_gone(self._on_client_gone)
        self._served.add(exchange)
        try:
            await self._answer(exchange, dialect, body)
        finally:
            self._served.discard(exchange)

    def _on_client_gone(self, exchange: Exchange) -> None:
        if not self._draining:  # else all clients are being told that the router stops
            exchange.cancel()

    async def _answer(self, exchange: Exchange, dialect: Dialect, body: bytes) -> None:
        """Decide where a request goes, and forward it."""
        if self._draining:
            respond_error(exchange, dialect, _STOPPING, [])
            return
        parsed = None
        if is_large(body):
            parsed = await parse_large(exchange.path, body, self.service.worker)
        try:
            request = plan(exchange, self._dialects.get(exchange.path), body, self.service, parsed)
        except RequestFailedError as failed:
            report = failed.report
            self.service.metrics.count_refusal(report.code)
            _log.info("%s refused: %d %s", _request_line(exchange), report.status, report.code)
            respond_error(exchange, dialect, report, [])
        except Exception as error:  # noqa: BLE001 - as below
            respond_error(exchange, dialect, self._unexpected(exchange, error), [])
        else:
            request.is_large = parsed is not None
            request.id = self._ids.id_for(exchange.headers)
            await self._forward(exchange, request)

    async def _forward(self, exchange: Exchange, request: RoutedRequest) -> None:
        service = self.service
        service.in_flight += 1
        try:
            await forward(exchange, request, service, self._timeouts)
        except asyncio.CancelledError:
            if not request.stream_complete:
                request.mark_failed("client_gone", "client")
            if not self._draining:
                raise
            request.mark_failed(_STOPPING.code, "router")
            send_failure(exchange, request, _STOPPING)
        except Exception as error:  # noqa: BLE001 - a bug: this client gets an error, others go on
            report = self._unexpected(exchange, error)
            request.mark_failed(report.code, "router")
            send_failure(exchange, request, report)
        finally:
            service.in_flight -= 1
            self._record(exchange, request)

    def _unexpected(self, exchange: Exchange, error: Exception) -> FailureReport:
        """Log an error that nothing else handles, and return what the client is told."""
        if not is_out_of_files(error):
            _log.error("%s", _request_line(exchange), exc_info=error)
            return _BUG
        now = time.monotonic()
        if now >= self._may_log_files_at:
            self._may_log_files_at = now + LOG_INTERVAL_S
            _log.error("%s", OUT_OF_FILES.message)
        return OUT_OF_FILES

    def _record(self, exchange: Exchange, request: RoutedRequest) -> None:
        """Record what became of a request."""
        record = AccessRecord(
            id=request.id,
            at=time.time(),
            path=to_ascii(exchange.path[:SHOWN_PATH_CHARS]),
            asked=request.requested_model,
            tier=request.tier,
            reason=request.reason,
            tokens=request.tokens,
            status=exchange.status,
            first_byte_s=request.first_byte_s,
            total_s=time.monotonic() - request.received_at,
            outcome=request.outcome,
        )
        self.service.note_end(request, record)
        record.log()


def _request_line(exchange: Exchange) -> str:
    return to_ascii(f"{exchange.method} {exchange.path[:SHOWN_PATH_CHARS]}")
