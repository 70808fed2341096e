"""What is changed of a request's body before it is sent: every other byte stays as the client sent it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.router.body import renamed, with_defaults, with_slot
from llmstack.router.dialects.base import FailureReport, RequestFailedError

if TYPE_CHECKING:
    from llmstack.router.body import Parts
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.serving.base import Lease

# The sampling members that a request to a path may have.
_SAMPLED = {
    "/chat/completions": frozenset(("temperature", "top_p", "top_k", "min_p", "repetition_penalty")),
    "/completions": frozenset(("temperature", "top_p", "top_k", "min_p", "repetition_penalty")),
    "/messages": frozenset(("temperature", "top_p", "top_k")),
    "/responses": frozenset(("temperature", "top_p")),
}


def body_for(call: RoutedRequest, lease: Lease) -> bytes:
    """Return `parts_for` in one piece."""
    return b"".join(parts_for(call, lease))


def parts_for(call: RoutedRequest, lease: Lease) -> Parts:
    """Return the body with its `model` as the server calls it, and what models.ini adds to it.

    Every other byte stays as the client sent it.

    Raises:
        RequestFailedError: the body is nested too deeply to find it.
    """
    if not call.renames:
        return (call.body,)
    body = call.body
    try:
        if lease.defaults.values:
            takes = _SAMPLED.get(call.target.partition("?")[0].removeprefix("/v1"), frozenset())
            values = {name: value for name, value in lease.defaults.values.items() if name in takes}
            body = with_defaults(body, values, lease.defaults.one_of)
        slot = lease.slot
        if slot is not None and call.parsed.names_slot:
            body, slot = with_slot(body, slot), None
        if slot is None and call.parsed.model == lease.model:
            return (body,)
        return renamed(body, call.parsed.model, lease.model, slot)
    except RecursionError as error:
        text = "the request: the body is nested too deeply"
        raise RequestFailedError(FailureReport(400, "invalid_request", text)) from error
