"""The application: who may enter, and which way a request goes."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from llmstack.router.access_log import AccessRecord, Line
from llmstack.router.admin.admin_api import admin_api
from llmstack.router.dialects.base import FailureReport, RequestFailedError
from llmstack.router.dialects.openai import Untranslated
from llmstack.router.dialects.table import dialects
from llmstack.router.forward import fail, forward, respond_error
from llmstack.router.http.asgi import answer_by
from llmstack.router.http.limits import MIB
from llmstack.router.http.request_body import BodyTooLargeError, ClientGoneError
from llmstack.router.keepalive import WaitTimeouts
from llmstack.router.routed_request import Ids, printable
from llmstack.router.routing import plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from llmstack.router.dialects.base import Dialect
    from llmstack.router.http.exchange import Exchange, RequestHead
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.router.service import Service

MAX_BODY = 64 * MIB
SHOWN_PATH = 200  # characters of a path that the log and the status keep

UNAUTHORIZED = 401
_STOPPING = FailureReport(503, "router_stopping", "the router is stopping", retry_after=5)
_BUG = FailureReport(500, "internal_error", "internal error, see the router's log")

_log = logging.getLogger(__name__)


class RouterApp:
    """The router's application.

    Args:
        make_service: builds the router's state once the event loop runs.
        waits: how long clients are left without a word.
    """

    def __init__(
        self, make_service: Callable[[], Awaitable[Service]], waits: WaitTimeouts | None = None
    ) -> None:
        self._make_service = make_service
        self._waits = waits or WaitTimeouts()
        self._service: Service | None = None
        self._typed = admin_api(lambda: self.service)
        self._dialects = dialects()
        self._other: Dialect = Untranslated()  # how errors look on every other path
        self._served: set[Exchange] = set()
        self._ids = Ids()
        self._draining = False
        self._admitted: RequestHead | None = None  # the last one: the next request mostly has the same

    @property
    def service(self) -> Service:
        """The router's state; there is none before start-up."""
        if self._service is None:
            raise RuntimeError("the router has not started")
        return self._service

    async def start(self) -> None:
        """Build the router's state, and load what is to be resident from the start."""
        self._service = await self._make_service()
        if self._service.preloaded is not None:
            self._service.warm(self._service.preloaded)

    async def close(self) -> None:
        """Stop the model servers and let go of every connection to them."""
        if self._service is not None:
            await self._service.close()

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request."""
        dialect = self._dialects.get(exchange.path, self._other)
        if exchange.head is not self._admitted:
            refusal = self.service.guard.refusal(exchange.headers)
            if refusal is not None:
                wanted = [("www-authenticate", "Bearer")] if refusal.status == UNAUTHORIZED else []
                respond_error(exchange, dialect, refusal, wanted)
                return
            self._admitted = exchange.head
        try:
            body = await exchange.body(MAX_BODY)
        except BodyTooLargeError:
            report = FailureReport(413, "body_too_large", f"the body is larger than {MAX_BODY // MIB} MB")
            respond_error(exchange, dialect, report, [])
        except ClientGoneError:
            pass
        else:
            if exchange.path in self._typed.paths or exchange.path.startswith("/llmstack/"):
                await answer_by(self._typed.app, exchange, body)
            else:
                await self._serve(exchange, dialect, body)

    def refusal(self, status: int, code: str, text: str) -> bytes:
        """Return the body of the answer to what is not even a request."""
        return self._other.error(FailureReport(status, code, text))

    def drain(self) -> None:
        """End every request that still runs, each with an error its client understands."""
        self._draining = True
        for exchange in self._served:
            exchange.cancel()

    async def _serve(self, exchange: Exchange, dialect: Dialect, body: bytes) -> None:
        """Answer a request for as long as its client is there."""
        exchange.when_gone(self._left)  # nothing that knows the exchange, which would know it in turn
        self._served.add(exchange)
        try:
            await self._answer(exchange, dialect, body)
        finally:
            self._served.discard(exchange)

    def _left(self, exchange: Exchange) -> None:
        """Stop answering a client that has gone, unless all are being told that the router stops."""
        if not self._draining:
            exchange.cancel()

    async def _answer(self, exchange: Exchange, dialect: Dialect, body: bytes) -> None:
        """Decide and forward."""
        if self._draining:
            respond_error(exchange, dialect, _STOPPING, [])
            return
        try:
            call = plan(exchange, self._dialects.get(exchange.path), body, self.service)
        except RequestFailedError as failure:
            report = failure.report
            self.service.metrics.refused(report.code)
            _log.info("%s refused: %d %s", _shown(exchange), report.status, report.code)
            respond_error(exchange, dialect, report, [])
        except Exception:  # noqa: BLE001 - as below
            _log.exception("%s", _shown(exchange))
            respond_error(exchange, dialect, _BUG, [])
        else:
            call.id = self._ids.of(exchange.headers)
            await self._forward(exchange, call)

    async def _forward(self, exchange: Exchange, call: RoutedRequest) -> None:
        service = self.service
        service.in_flight += 1
        try:
            await forward(exchange, call, service, self._waits)
        except asyncio.CancelledError:
            if not call.told_all:
                call.failed("client_gone", "client")
            if not self._draining:
                raise
            call.failed(_STOPPING.code, "router")
            fail(exchange, call, _STOPPING)
        except Exception:  # noqa: BLE001 - a bug: this client gets an error, the log the trace, others go on
            call.failed(_BUG.code, "router")
            _log.exception("%s", _shown(exchange))
            fail(exchange, call, _BUG)
        finally:
            service.in_flight -= 1
            self._record(exchange, call)

    def _record(self, exchange: Exchange, call: RoutedRequest) -> None:
        """Note what became of a request; nothing of what it said."""
        record = AccessRecord(
            id=call.id,
            at=time.time(),
            path=printable(exchange.path[:SHOWN_PATH]),
            asked=call.asked,
            tier=call.tier,
            reason=call.reason,
            tokens=call.tokens,
            status=exchange.status,
            first_byte_s=call.first_byte_s,
            total_s=time.monotonic() - call.arrived,
            outcome=call.outcome,
        )
        self.service.ended(call, record)
        if _log.isEnabledFor(logging.INFO):
            line = Line(record)
            for handler in logging.root.handlers:  # at once: to ask every logger on the way takes longer
                if handler.level <= logging.INFO:
                    handler.handle(line)


def _shown(exchange: Exchange) -> str:
    return printable(f"{exchange.method} {exchange.path[:SHOWN_PATH]}")
