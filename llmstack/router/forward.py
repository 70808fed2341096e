"""Forwarding one request: wait for the model, send, stream back, and never fail silently."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

from llmstack.providers.translation.failures import failure, without_in
from llmstack.router.dialects.base import FailureReport, RequestFailedError
from llmstack.router.dialects.stream import dollars
from llmstack.router.failover import (
    TierFailedError,
    asked_pause,
    is_error_event,
    judge,
    without_comments,
)
from llmstack.router.keepalive import KeepAlive
from llmstack.router.reply import JSON
from llmstack.router.sending import send
from llmstack.router.sse import EventBuffer
from llmstack.serving.base import TierUnavailableError
from llmstack.upstream.client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmstack.router.dialects.base import Dialect, StreamWatch
    from llmstack.router.failover import Kind
    from llmstack.router.http.exchange import Exchange, RequestHead
    from llmstack.router.keepalive import WaitTimeouts
    from llmstack.router.reply import ServerResponse
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.router.service import Service
    from llmstack.serving.base import Lease

FAILED = 400  # HTTP: from here on a status says that a request failed
SERVER_FAILED = 500  # and from here on that the server did
_FORM = "application/x-www-form-urlencoded"

# Of what a client sent, these describe its connection to us, or are for us alone.
_NOT_FORWARDED = frozenset(
    (
        *("host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer"),
        *("upgrade", "http2-settings", "expect", "content-length", "accept-encoding"),
        *("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"),
        *("origin", "referer", "cookie"),
    )
)


async def forward(exchange: Exchange, call: RoutedRequest, service: Service, waits: WaitTimeouts) -> None:
    """Serve one request; whatever happens to it, the client is told."""
    service.while_loading(call)
    try:
        async with KeepAlive(exchange, call, waits) as telling:
            forwarding = _Forwarding(exchange, call, service, telling)
            while not await forwarding.attempt():
                pass
    except RequestFailedError as failure:
        call.failed(failure.report.code, failure.report.origin)
        fail(exchange, call, failure.report)


def fail(exchange: Exchange, call: RoutedRequest, report: FailureReport) -> None:
    """Tell the client of a failure, in the form that is still possible."""
    if exchange.ended:
        return
    if exchange.started:
        exchange.finish(call.dialect.error_event(report))
        return
    respond_error(exchange, call.dialect, report, call.headers)


def respond_error(
    exchange: Exchange, dialect: Dialect, report: FailureReport, headers: Sequence[tuple[str, str]]
) -> None:
    """Send a failure as an HTTP error."""
    extra = [("content-type", JSON)]
    if report.retry_after is not None:
        extra.append(("retry-after", str(report.retry_after)))
    if report.allow is not None:
        extra.append(("allow", report.allow))
    exchange.respond(report.status, dialect.error(report), [*headers, *extra])


def of_swapper(error: TierUnavailableError) -> FailureReport:
    """Return what a client is told of a model that cannot be used now."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    code = "model_unavailable" if error.retry_after is None else "model_busy"
    return FailureReport(503, code, text, "swapper", error.retry_after)


class _Forwarding:
    """One request while it is served: from waiting for a tier to the last byte."""

    def __init__(self, exchange: Exchange, call: RoutedRequest, service: Service, telling: KeepAlive) -> None:
        self._exchange = exchange
        self._call = call
        self._service = service
        self._telling = telling

    async def attempt(self) -> bool:
        """Have one tier serve; return False where another one is to be tried."""
        call, service = self._call, self._service
        try:
            async with await self._lease() as lease:
                await self._serve(lease)
        except TierFailedError as failure:
            if failure.kind != "context":
                service.cooldowns.failed(call.tier, failure.brief, failure.pause_s)
            other = service.alternative(call, failure.kind)
            if other is None:
                raise
            call.move(other, failure.brief)
            return False
        return True

    async def _lease(self) -> Lease:
        """Wait for the right to use the tier; not for ever, where another one could serve at once."""
        call, service = self._call, self._service
        self._telling.what = "waiting for"
        may_wait = bool(call.others) and not service.has_place(call)
        bounded = may_wait and any(service.is_up(other) for other in call.others)
        limit = self._telling.waits.load_s if bounded else None
        try:
            if limit is None:
                return await service.acquire(call)
            async with asyncio.timeout(limit):
                return await service.acquire(call)
        except TimeoutError as error:
            text = f"{call.tier} did not come up within {limit:g} s"
            report = FailureReport(503, "model_busy", text, "swapper", retry_after=30)
            raise TierFailedError(report, "limited", f"is not up after {limit:g} s") from error
        except TierUnavailableError as error:
            kind: Kind = "broken" if error.retry_after is None else "limited"
            brief = "cannot start" if error.retry_after is None else "is busy"
            raise TierFailedError(of_swapper(error), kind, brief, pause_s=error.retry_after) from error

    async def _serve(self, lease: Lease) -> None:
        """Send the request with a lease in hand, and the answer back."""
        exchange, call, service = self._exchange, self._call, self._service
        self._telling.what = "waiting for the first token of"
        headers = _forwarded(exchange.head, was_read=call.renames)
        if lease.kv:
            call.notes = [("x-llmstack-kv", lease.kv)]
        try:
            with await send(service.upstream, exchange.method, call, lease, headers) as answer:
                call.cost_usd = dollars(dict(answer.headers).get("x-litellm-response-cost"))
                if answer.is_event_stream and answer.status < FAILED:
                    await self._stream(answer, lease)
                else:
                    await self._pass_whole(answer, lease)
        except UpstreamError as error:
            report = await _broken(lease, error)
            if call.first_byte_s is not None:
                raise RequestFailedError(report) from error
            brief = "ended" if report.code == "engine_ended" else "is not reachable"
            raise TierFailedError(report, "broken", brief) from error

    async def _pass_whole(self, answer: ServerResponse, lease: Lease) -> None:
        """Pass on an answer that is no stream; read it first, so that a cut one becomes an error."""
        exchange, call = self._exchange, self._call
        body = await answer.read()
        if answer.status >= FAILED:
            await self._judge(answer, body, lease)
            call.failed(f"upstream_{answer.status}", lease.origin)
        elif call.streams:
            # Clients that asked for events find none in it, and take that for an empty answer.
            text = f"the model server of {call.tier} answered a streaming request without streaming"
            raise RequestFailedError(FailureReport(502, "not_a_stream", text, lease.origin))
        else:
            self._service.cooldowns.served(call.tier)
            call.counted(call.dialect.usage(body))
        await self._telling.end()
        call.content_came()
        if exchange.started:
            raise RequestFailedError(_report(answer, body, lease))
        headers = answer.headers
        if answer.status >= FAILED:
            said, body = body, call.dialect.server_error(answer.status, body, lease.origin)
            if body is not said:
                headers = [*((n, v) for n, v in headers if n != "content-type"), ("content-type", JSON)]
        exchange.respond(answer.status, body, [*headers, *call.headers])

    async def _judge(self, answer: ServerResponse, body: bytes, lease: Lease) -> None:
        """Judge an error; it is passed on as it is where the request is at fault, or nobody else can serve.

        Raises:
            TierFailedError: another tier can take over, or it was not the server that answered.
        """
        call, service = self._call, self._service
        if answer.status >= SERVER_FAILED and (why := await lease.explain(answer.status, body)) is not None:
            report = FailureReport(502, "engine_ended", why, lease.origin)
            raise TierFailedError(report, "broken", "ended")
        kind = judge(answer.status, body)
        if kind is None:
            return
        if kind == "context":
            service.overflowed(call, body)
        brief, pause = _BRIEF[kind].format(status=answer.status), asked_pause(answer.headers)
        if service.alternative(call, kind) is not None:
            raise TierFailedError(_report(answer, body, lease), kind, brief, pause_s=pause)
        if kind != "context":
            service.cooldowns.failed(call.tier, brief, pause)

    async def _stream(self, answer: ServerResponse, lease: Lease) -> None:
        """Pass events on as they come; an end that is none becomes an error event."""
        exchange, call = self._exchange, self._call
        events = EventBuffer(answer.chunks())
        first = b""
        async for came in events:
            if first := without_comments(came):
                break  # until then a failure can be mended; the client is told something meanwhile
        said = first or events.rest
        if not first or is_error_event(said):
            text = "it ended without a word"
            if is_error_event(said):
                text = failure(SERVER_FAILED, said.partition(b"data:")[2], {}, secrets=lease.secrets).message
            report = FailureReport(502, "stream_failed", f"{call.tier}: {text}", lease.origin)
            kind = judge(report.status, said) or "broken"
            raise TierFailedError(report, kind, "failed before its first token")
        await self._telling.end()
        call.content_came()
        self._service.cooldowns.served(call.tier)
        if not exchange.started:
            exchange.start(answer.status, [*answer.headers, *call.headers])
        watch = call.dialect.watch()
        try:
            await _pass_events(exchange, watch, first, events, lease.secrets)
        finally:
            call.counted(watch.usage)
            call.told_all = watch.complete
        if not watch.complete:
            text = f"{call.tier} ended its answer in mid-stream, without a finish reason"
            raise RequestFailedError(FailureReport(502, "stream_cut", text, lease.origin))
        exchange.finish()


_BRIEF: dict[Kind, str] = {
    "context": "cannot hold it",
    "limited": "is rate-limited",
    "refused": "was refused ({status})",
    "broken": "failed ({status})",
}


async def _pass_events(
    exchange: Exchange, watch: StreamWatch, first: bytes, events: EventBuffer, secrets: tuple[str, ...]
) -> None:
    """Pass events on as they come."""

    def pass_one(chunk: bytes) -> bool:
        passed = without_in(watch.feed(chunk), secrets)
        return not passed or exchange.write_now(passed)

    send = exchange.relay

    def relay(chunk: bytes) -> bool:
        """Pass on what holds nothing to look at, no error above all, untouched: nearly every token."""
        if events.held or send is None:
            return False
        split = chunk.rpartition  # finds out in a third of the time that `in` takes
        for mark in watch.marks:
            if split(mark)[1]:
                return False
        return send(chunk)

    all_passed = False
    if not pass_one(first):
        await exchange.drained()
    while not all_passed:
        all_passed = await events.pass_on(pass_one, relay)
        await exchange.drained()
    if watch.complete and events.rest:  # some leave out the blank line after their last one
        await exchange.write(without_in(events.rest, secrets))


@lru_cache(maxsize=64)  # a client's heads are the same from turn to turn, and then the same object
def _forwarded(head: RequestHead, *, was_read: bool) -> Mapping[str, str]:
    """Return what a model server is sent of a client's headers; `was_read` says that the body was."""
    kept = {name: value for name, value in head.headers.items() if name not in _NOT_FORWARDED}
    for name in head.headers.get("connection", "").split(","):
        kept.pop(name.strip().lower(), None)
    if was_read and kept.get("content-type", _FORM).startswith(_FORM):
        kept["content-type"] = JSON  # it was read as that; `curl -d` does not say so
    return kept


async def _broken(lease: Lease, error: UpstreamError) -> FailureReport:
    why = await lease.failure()
    if why is not None:
        return FailureReport(502, "engine_ended", f"{why}\nThe next request starts it again.", lease.origin)
    text = f"the model server of {lease.tier}: {error}"
    return FailureReport(502, "engine_unreachable", text, lease.origin)


def _report(answer: ServerResponse, body: bytes, lease: Lease) -> FailureReport:
    said = failure(answer.status, body, {})
    return FailureReport(answer.status, f"upstream_{answer.status}", said.message, lease.origin)
