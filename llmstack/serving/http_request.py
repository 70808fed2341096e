"""Sending a client's request to an HTTP server. Every byte of the body stays, but for a few members."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from llmstack.serving.errors import FailureReport, RequestFailedError
from llmstack.serving.json_edits import add_members, set_model, set_slot

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from llmstack.serving.base import ModelRequest, SamplingDefaults
    from llmstack.serving.json_edits import Parts
    from llmstack.upstream.client import Response, Upstream

# The sampling members that each path accepts.
_SAMPLING_BY_PATH = {
    "/chat/completions": frozenset(("temperature", "top_p", "top_k", "min_p", "repetition_penalty")),
    "/completions": frozenset(("temperature", "top_p", "top_k", "min_p", "repetition_penalty")),
    "/messages": frozenset(("temperature", "top_p", "top_k")),
    "/responses": frozenset(("temperature", "top_p")),
}


class ServedModel(Protocol):
    """One model at an HTTP server, as much as the body of a request depends on it."""

    @property
    def model(self) -> str:
        """The server's name for the model."""

    @property
    def defaults(self) -> SamplingDefaults:
        """Sampling values of models.ini that the server does not have as flags."""

    @property
    def slot(self) -> int | None:
        """The server's slot that keeps this conversation; None if the server chooses."""


class HttpLease(ServedModel, Protocol):
    """A lease of a model whose server speaks the client's own API."""

    @property
    def url(self) -> str:
        """Address of the server, without a path."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What the server requires with every request, such as its key."""


def send_to(upstream: Upstream, lease: HttpLease, request: ModelRequest) -> Coroutine[Any, Any, Response]:
    """Send a request to the server of a lease, in the API that the client used.

    Raises:
        UpstreamError: the server cannot be reached, or the connection broke.
        RequestFailedError: the body is nested too deeply to edit it.
    """
    headers = {**request.headers, **lease.headers}
    return upstream.send(request.method, f"{lease.url}{request.target}", headers, *body_parts(request, lease))


def edited_body(request: ModelRequest, served: ServedModel) -> bytes:
    """Return `body_parts` in one piece."""
    return b"".join(body_parts(request, served))


def body_parts(request: ModelRequest, served: ServedModel) -> Parts:
    """Return the body with the server's name for the model, and with the defaults of models.ini.

    Raises:
        RequestFailedError: the body is nested too deeply to edit it.
    """
    body = request.body
    if not request.rewrites_body:
        return (body,)
    try:
        if served.defaults.values:
            accepted = _SAMPLING_BY_PATH.get(
                request.target.partition("?")[0].removeprefix("/v1"), frozenset()
            )
            values = {name: value for name, value in served.defaults.values.items() if name in accepted}
            body = add_members(body, values, served.defaults.one_of)
        slot = served.slot
        if slot is not None and request.has_slot:
            body, slot = set_slot(body, slot), None
        if slot is None and request.model == served.model:
            return (body,)
        return set_model(body, request.model, served.model, slot)
    except RecursionError as error:
        text = "the request: the body is nested too deeply"
        raise RequestFailedError(FailureReport(400, "invalid_request", text)) from error
