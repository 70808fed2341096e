"""Forwarding one request: wait for the model, send, stream back, and never fail silently."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from llmstack.router.dialects.base import FailureReport, RequestFailedError
from llmstack.router.upstream import UpstreamError
from llmstack.router.waiting import while_telling
from llmstack.swapper.base import SwapError

if TYPE_CHECKING:
    from llmstack.router.call import Call
    from llmstack.router.dialects.base import Dialect
    from llmstack.router.exchange import Exchange
    from llmstack.router.upstream import Answer, Upstream
    from llmstack.router.waiting import Waits
    from llmstack.swapper.base import Lease, Swapper

FAILED = 400  # HTTP: from here on a status says that a request failed
SERVER_FAILED = 500  # and from here on that the server did
SHOWN_BYTES = 2000  # of a server's error that is not JSON

# Of what a client sent, these describe its connection to us, or are for us alone.
_NOT_FORWARDED = frozenset(
    (
        *("host", "connection", "keep-alive", "proxy-connection", "transfer-encoding", "te", "trailer"),
        *("upgrade", "http2-settings", "expect", "content-length", "accept-encoding"),
        *("authorization", "x-api-key", "api-key", "x-goog-api-key", "proxy-authorization"),
        *("origin", "referer", "cookie"),
    )
)


async def forward(exchange: Exchange, call: Call, swapper: Swapper, upstream: Upstream, waits: Waits) -> None:
    """Serve one request; whatever happens to it, the client is told."""
    try:
        lease = await while_telling(exchange, call, waits, _lease(swapper, call.tier), "waiting for")
        async with lease:
            await _serve(exchange, call, lease, upstream, waits)
    except RequestFailedError as failure:
        call.outcome = failure.report.code
        await fail(exchange, call, failure.report)


async def fail(exchange: Exchange, call: Call, report: FailureReport) -> None:
    """Tell the client of a failure, in the form that is still possible."""
    if exchange.ended:
        return
    if exchange.started:
        await exchange.finish(call.dialect.error_event(report))
        return
    await respond_error(exchange, call.dialect, report, call.headers)


async def respond_error(
    exchange: Exchange, dialect: Dialect, report: FailureReport, headers: list[tuple[str, str]]
) -> None:
    """Send a failure as an HTTP error."""
    extra = [("content-type", "application/json")]
    if report.retry_after is not None:
        extra.append(("retry-after", str(report.retry_after)))
    if report.allow is not None:
        extra.append(("allow", report.allow))
    await exchange.respond(report.status, dialect.error(report), [*headers, *extra])


async def _lease(swapper: Swapper, tier: str) -> Lease:
    try:
        return await swapper.acquire(tier)
    except SwapError as error:
        raise RequestFailedError(of_swapper(error)) from error


def of_swapper(error: SwapError) -> FailureReport:
    """Return what a client is told of a model that cannot be used now."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    code = "model_unavailable" if error.retry_after is None else "model_busy"
    return FailureReport(503, code, text, "swapper", error.retry_after)


async def _serve(exchange: Exchange, call: Call, lease: Lease, upstream: Upstream, waits: Waits) -> None:
    """Send the request with a lease in hand, and the answer back."""
    headers = {**_forwarded(exchange.headers), **lease.headers}
    sending = upstream.send(exchange.method, f"{lease.url}{call.target}", headers, call.body)
    try:
        answer = await while_telling(exchange, call, waits, sending, "waiting for the first token of")
        async with answer:
            if answer.is_event_stream:
                await _stream(exchange, call, answer)
            else:
                await _pass_whole(exchange, call, answer, lease)
    except UpstreamError as error:
        raise RequestFailedError(await _broken(lease, error)) from error


def _forwarded(headers: dict[str, str]) -> dict[str, str]:
    """Return what a model server is sent of a client's headers."""
    nominated = {name.strip().lower() for name in headers.get("connection", "").split(",")}
    return {
        name: value for name, value in headers.items() if name not in _NOT_FORWARDED and name not in nominated
    }


async def _broken(lease: Lease, error: UpstreamError) -> FailureReport:
    why = await lease.failure()
    if why is not None:
        return FailureReport(502, "engine_ended", f"{why}\nThe next request starts it again.", "engine")
    return FailureReport(502, "engine_unreachable", f"the model server of {lease.tier}: {error}", "engine")


async def _pass_whole(exchange: Exchange, call: Call, answer: Answer, lease: Lease) -> None:
    """Pass on an answer that is no stream; read it first, so that a cut one becomes an error."""
    body = await answer.read()
    call.first_byte_s = time.monotonic() - call.arrived
    failed = answer.status >= FAILED
    if call.streams and not failed:
        # Clients that asked for events find none in it, and take that for an empty answer.
        text = f"the model server of {call.tier} answered a streaming request without streaming"
        raise RequestFailedError(FailureReport(502, "not_a_stream", text, "engine"))
    if answer.status >= SERVER_FAILED and (why := await lease.explain(answer.status, body)) is not None:
        raise RequestFailedError(FailureReport(502, "engine_ended", why, "engine"))
    if exchange.started:
        report = FailureReport(answer.status, f"upstream_{answer.status}", _message_of(body), "engine")
        raise RequestFailedError(report)
    if failed:
        call.outcome = f"upstream_{answer.status}"
    await exchange.respond(answer.status, body, [*answer.headers, *call.headers])


def _message_of(body: bytes) -> str:
    """Return the text of a server's error body."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:SHOWN_BYTES].decode(errors="replace")


async def _stream(exchange: Exchange, call: Call, answer: Answer) -> None:
    """Pass events on as they come; an end that is none becomes an error event."""
    if not exchange.started:
        await exchange.start(answer.status, [*answer.headers, *call.headers])
    watch, last = call.dialect.watch(), b"\n\n"
    try:
        async for chunk in answer.chunks():
            if call.first_byte_s is None:
                call.first_byte_s = time.monotonic() - call.arrived
            if passed := watch.feed(chunk):
                await exchange.write(passed)
                last = (last + passed[-2:])[-2:]
    except BaseException:
        await _close_event(exchange, last)
        raise
    if not watch.complete:
        await _close_event(exchange, last)
        text = f"{call.tier} ended its answer in mid-stream, without a finish reason"
        raise RequestFailedError(FailureReport(502, "stream_cut", text, "engine"))
    await exchange.finish()


async def _close_event(exchange: Exchange, last: bytes) -> None:
    """End an event that was cut off in the middle, so that the error after it is one of its own."""
    if last != b"\n\n":
        await exchange.write(b"\n\n")
