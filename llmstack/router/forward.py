"""Forwarding one request: wait for the tier, send, stream back, and never fail silently."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING

from llmstack.providers.translation.failures import parse_failure, redact_bytes
from llmstack.router.dialects.stream import dollars
from llmstack.router.error_responses import send_failure, unavailable_report
from llmstack.router.event_splitter import EventSplitter
from llmstack.router.failover import (
    TierFailedError,
    classify_error,
    is_error_event,
    requested_pause,
    strip_leading_comments,
)
from llmstack.router.keepalive import KeepAlive
from llmstack.router.response_relay import pass_events, pass_long_body, without_secrets
from llmstack.serving.base import ModelRequest
from llmstack.serving.errors import (
    OUT_OF_FILES,
    FailureReport,
    RequestFailedError,
    TierUnavailableError,
    is_out_of_files,
)
from llmstack.serving.response import FIRST_ERROR_STATUS, JSON
from llmstack.upstream.client import UpstreamError
from llmstack.upstream.limits import MAX_ERROR_BYTES, MAX_HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.process.worker import Worker
    from llmstack.router.failover import FailureKind
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.keepalive import WaitTimeouts
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.router.service import Service
    from llmstack.serving.base import Lease, ServerResponse

_FORM = "application/x-www-form-urlencoded"

# Client headers that describe its connection to this router, or that are for this router alone.
_NOT_FORWARDED = frozenset(
    (
        *("host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer"),
        *("upgrade", "http2-settings", "expect", "content-length", "accept-encoding"),
        *("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"),
        *("origin", "referer", "cookie"),
    )
)

_BRIEF: dict[FailureKind, str] = {
    "context": "cannot hold it",
    "limited": "is rate-limited",
    "refused": "was refused ({status})",
    "broken": "failed ({status})",
}


async def forward(
    exchange: Exchange, request: RoutedRequest, service: Service, timeouts: WaitTimeouts
) -> None:
    """Serve one request; whatever happens to it, the client is told."""
    service.stand_in_while_loading(request)
    try:
        async with KeepAlive(exchange, request, timeouts) as keepalive:
            forwarding = _Forwarding(exchange, request, service, keepalive)
            while not await forwarding.try_tier():
                pass
    except RequestFailedError as failed:
        request.mark_failed(failed.report.code, failed.report.origin)
        send_failure(exchange, request, failed.report)


class _Forwarding:
    """One request while it is served: from waiting for a tier to the last byte."""

    def __init__(
        self, exchange: Exchange, request: RoutedRequest, service: Service, keepalive: KeepAlive
    ) -> None:
        self._exchange = exchange
        self._request = request
        self._service = service
        self._keepalive = keepalive

    async def try_tier(self) -> bool:
        """Let the request's tier serve it; return False if it failed and another tier is to be tried."""
        request, service = self._request, self._service
        try:
            async with await self._acquire() as lease:
                await self._serve(lease)
        except TierFailedError as failed:
            if failed.kind != "context":
                self._note_failure(failed.brief, failed.pause_s)
            other = service.alternative(request, failed.kind)
            if other is None:
                raise
            request.reroute(other, failed.brief)
            return False
        return True

    def _note_failure(self, brief: str, pause_s: float | None) -> None:
        if not self._request.reads_only:
            self._service.cooldowns.note_failure(self._request.tier, brief, pause_s)

    def _note_success(self) -> None:
        if not self._request.reads_only:
            self._service.cooldowns.note_success(self._request.tier)

    async def _acquire(self) -> Lease:
        """Wait for the right to use the tier; not for ever if another tier could serve at once."""
        request, service = self._request, self._service
        self._keepalive.waiting_for = "waiting for"
        must_wait = bool(request.alternatives) and not service.has_free_slot(request)
        if not must_wait or not any(map(service.is_up, request.alternatives)):
            limit_s = None
        else:
            limit_s = self._keepalive.timeouts.load_s
        try:
            if limit_s is None:
                return await service.acquire(request)
            async with asyncio.timeout(limit_s):
                return await service.acquire(request)
        except TimeoutError as error:
            text = f"{request.tier} did not come up within {limit_s:g} s"
            report = FailureReport(
                HTTPStatus.SERVICE_UNAVAILABLE, "model_busy", text, "swapper", retry_after=30
            )
            raise TierFailedError(report, "limited", f"is not up after {limit_s:g} s") from error
        except TierUnavailableError as error:
            kind: FailureKind = "broken" if error.retry_after is None else "limited"
            brief = "cannot start" if error.retry_after is None else "is busy"
            report = unavailable_report(error)
            raise TierFailedError(report, kind, brief, pause_s=error.retry_after) from error

    async def _serve(self, lease: Lease) -> None:
        """Send the request under a lease, and pass the response on."""
        request = self._request
        self._keepalive.waiting_for = "waiting for the first token of"
        if lease.kv:
            request.notes = [("x-llmstack-kv", lease.kv)]
        try:
            with await lease.send(_model_request(self._exchange, request, self._service.worker)) as response:
                request.cost_usd = dollars(dict(response.headers).get("x-litellm-response-cost"))
                if response.is_event_stream and response.status < FIRST_ERROR_STATUS:
                    await self._pass_stream(response, lease)
                elif response.status < FIRST_ERROR_STATUS:
                    await self._pass_whole(response, lease)
                else:
                    await self._pass_error(response, lease)
        except UpstreamError as error:
            if is_out_of_files(error):  # the tier is not to blame, and another one would fare no better
                raise RequestFailedError(OUT_OF_FILES) from error
            report = await _connection_failure(lease, error)
            if request.first_byte_s is not None:
                raise RequestFailedError(report) from error
            brief = "ended" if report.code == "engine_ended" else "is not reachable"
            raise TierFailedError(report, "broken", brief) from error

    async def _pass_whole(self, response: ServerResponse, lease: Lease) -> None:
        """Pass on a response that is no stream; it is read first, so that a cut one becomes an error."""
        exchange, request = self._exchange, self._request
        body = await response.read(MAX_HELD_BYTES)
        if request.wants_stream:
            # A client that asked for events finds none in it, and takes that for an empty answer.
            text = f"the model server of {request.tier} answered a streaming request without streaming"
            report = FailureReport(HTTPStatus.BAD_GATEWAY, "not_a_stream", text, lease.origin)
            raise RequestFailedError(report)
        self._note_success()
        await self._keepalive.stop()
        request.note_first_byte()
        headers = [*without_secrets(response.headers, lease.secrets), *request.headers]
        if len(body) > MAX_HELD_BYTES:
            await pass_long_body(exchange, body, response, headers, lease.secrets)
        else:
            request.set_usage(request.dialect.usage(body))
            exchange.respond(response.status, redact_bytes(body, lease.secrets), headers)

    async def _pass_error(self, response: ServerResponse, lease: Lease) -> None:
        """Pass on a server's error, unless another tier can take over."""
        exchange, request = self._exchange, self._request
        body = (await response.read(MAX_ERROR_BYTES))[:MAX_ERROR_BYTES]
        body = redact_bytes(body, lease.secrets)
        await self._handle_error(response, body, lease)
        request.mark_failed(f"upstream_{response.status}", lease.origin)
        await self._keepalive.stop()
        request.note_first_byte()
        if exchange.started:
            raise RequestFailedError(_error_report(response, body, lease))
        headers = without_secrets(response.headers, lease.secrets)
        translated = request.dialect.server_error(response.status, body, lease.origin)
        if translated is not body:
            headers = [*((n, v) for n, v in headers if n != "content-type"), ("content-type", JSON)]
        exchange.respond(response.status, translated, [*headers, *request.headers])

    async def _handle_error(self, response: ServerResponse, body: bytes, lease: Lease) -> None:
        """Decide about a server's error; return if it is to be passed on to the client as it is.

        Raises:
            TierFailedError: another tier can take over, or it was not the server that answered.
        """
        request, service, status = self._request, self._service, response.status
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            why = await lease.explain(status, body)
            if why is not None:
                report = FailureReport(HTTPStatus.BAD_GATEWAY, "engine_ended", why, lease.origin)
                raise TierFailedError(report, "broken", "ended")
        kind = classify_error(status, body)
        if kind is None:
            return
        if kind == "context":
            service.note_overflow(request, body)
        brief, pause_s = _BRIEF[kind].format(status=status), requested_pause(response.headers)
        if service.alternative(request, kind) is not None:
            raise TierFailedError(_error_report(response, body, lease), kind, brief, pause_s=pause_s)
        if kind != "context":
            self._note_failure(brief, pause_s)

    async def _pass_stream(self, response: ServerResponse, lease: Lease) -> None:
        """Pass events on as they come; a stream that does not end properly gets an error event."""
        exchange, request = self._exchange, self._request
        events = EventSplitter(response.chunks())
        first = await self._first_events(events, lease)
        await self._keepalive.stop()
        request.note_first_byte()
        self._note_success()
        if not exchange.started:
            headers = without_secrets(response.headers, lease.secrets)
            exchange.start(response.status, [*headers, *request.headers])
        watch = request.dialect.watch()
        try:
            await pass_events(exchange, watch, first, events, lease.secrets)
        finally:
            request.set_usage(watch.usage)
            request.stream_complete = watch.complete
        if not watch.complete:
            text = f"{request.tier} ended its answer in mid-stream, without a finish reason"
            report = FailureReport(HTTPStatus.BAD_GATEWAY, "stream_cut", text, lease.origin)
            raise RequestFailedError(report)
        exchange.finish()

    async def _first_events(self, events: EventSplitter, lease: Lease) -> bytes:
        """Wait for the first events that are not comments: until then another tier can take over.

        Raises:
            TierFailedError: the stream ended or failed before.
        """
        first = b""
        async for whole_events in events:
            if first := strip_leading_comments(whole_events):
                break
        start = first or events.rest
        if first and not is_error_event(start):
            return first
        text = "it ended without a word"
        if is_error_event(start):
            data = start.partition(b"data:")[2]
            text = parse_failure(HTTPStatus.INTERNAL_SERVER_ERROR, data, {}, secrets=lease.secrets).message
        report = FailureReport(
            HTTPStatus.BAD_GATEWAY, "stream_failed", f"{self._request.tier}: {text}", lease.origin
        )
        kind = classify_error(report.status, start) or "broken"
        raise TierFailedError(report, kind, "failed before its first token")


def _model_request(exchange: Exchange, request: RoutedRequest, worker: Worker) -> ModelRequest:
    """Return what the lease sends to the server."""
    return ModelRequest(
        worker=worker,
        method=exchange.method,
        target=request.target,
        headers=_forwarded_headers(exchange.headers, has_json_body=request.rewrites_body),
        body=request.body,
        model=request.parsed.model,
        rewrites_body=request.rewrites_body,
        has_slot=request.parsed.has_slot,
        is_large=request.is_large,
        format_error=request.dialect.error,
    )


def _forwarded_headers(headers: Mapping[str, str], *, has_json_body: bool) -> dict[str, str]:
    """Return the client's headers that the model server gets."""
    forwarded = {name: value for name, value in headers.items() if name not in _NOT_FORWARDED}
    if "connection" in headers:
        for name in headers["connection"].split(","):
            forwarded.pop(name.strip().lower(), None)
    if has_json_body and forwarded.get("content-type", _FORM).startswith(_FORM):
        forwarded["content-type"] = JSON  # `curl -d` does not say that it sends JSON
    return forwarded


async def _connection_failure(lease: Lease, error: UpstreamError) -> FailureReport:
    why = await lease.failure()
    if why is not None:
        text = f"{why}\nThe next request starts it again."
        return FailureReport(HTTPStatus.BAD_GATEWAY, "engine_ended", text, lease.origin)
    text = f"the model server of {lease.tier}: {error}"
    return FailureReport(HTTPStatus.BAD_GATEWAY, "engine_unreachable", text, lease.origin)


def _error_report(response: ServerResponse, body: bytes, lease: Lease) -> FailureReport:
    message = parse_failure(response.status, body, {}).message
    return FailureReport(response.status, f"upstream_{response.status}", message, lease.origin)
