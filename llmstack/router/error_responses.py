"""Telling a client that its request failed, in its own API."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from llmstack.serving.errors import FailureReport
from llmstack.serving.response import JSON

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmstack.router.dialects.base import Dialect
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.serving.errors import TierUnavailableError


def send_failure(exchange: Exchange, request: RoutedRequest, report: FailureReport) -> None:
    """Tell the client about a failure: as an HTTP error, or as an event if the response has started."""
    if exchange.ended:
        return
    if exchange.started:
        exchange.finish(request.dialect.error_event(report))
        return
    respond_error(exchange, request.dialect, report, request.headers)


def respond_error(
    exchange: Exchange, dialect: Dialect, report: FailureReport, headers: Sequence[tuple[str, str]]
) -> None:
    """Send a failure as an HTTP error."""
    more = [("content-type", JSON)]
    if report.retry_after is not None:
        more.append(("retry-after", str(report.retry_after)))
    if report.allow is not None:
        more.append(("allow", report.allow))
    exchange.respond(report.status, dialect.error(report), [*headers, *more])


def unavailable_report(error: TierUnavailableError) -> FailureReport:
    """Return what the client is told about a tier that cannot be used now."""
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    code = "model_unavailable" if error.retry_after is None else "model_busy"
    return FailureReport(HTTPStatus.SERVICE_UNAVAILABLE, code, text, "swapper", error.retry_after)
