"""Sending a client's request to an HTTP server. Every byte of the body stays, but for a few members."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from llmstack.process.worker import WorkerFailedError
from llmstack.serving.errors import FailureReport, RequestFailedError
from llmstack.serving.json_edits import add_members, has_leading_model, set_model, set_slot

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from llmstack.serving.base import ModelRequest, SamplingDefaults
    from llmstack.serving.json_edits import Parts
    from llmstack.upstream.client import Response, Upstream

T = TypeVar("T")

TOO_COMPLEX = FailureReport(
    400, "too_complex", "the request: reading it takes too long or too much memory; send fewer messages"
)

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
    if request.is_large:
        return _send_large(upstream, lease, request)
    headers = {**request.headers, **lease.headers}
    return upstream.send(request.method, f"{lease.url}{request.target}", headers, *body_parts(request, lease))


async def _send_large(upstream: Upstream, lease: HttpLease, request: ModelRequest) -> Response:
    if _keeps_most(request, lease):
        parts = body_parts(request, lease)
    else:
        parts = (await edit_large(request, lease, edited_body),)
    headers = {**request.headers, **lease.headers}
    return await upstream.send(request.method, f"{lease.url}{request.target}", headers, *parts)


def _keeps_most(request: ModelRequest, served: ServedModel) -> bool:
    """Return whether `body_parts` neither decodes nor copies most of the body."""
    if not request.rewrites_body:
        return True
    if served.defaults.values or (served.slot is not None and request.has_slot):
        return False
    if served.slot is None and request.model == served.model:
        return True
    return has_leading_model(request.body, request.model)


@dataclass(frozen=True, slots=True)
class ServedModelCopy:
    """A `ServedModel` that can be sent to the worker."""

    model: str
    defaults: SamplingDefaults
    slot: int | None


async def edit_large(
    request: ModelRequest, served: ServedModel, edit: Callable[[ModelRequest, ServedModel], T]
) -> T:
    """Return `edit(request, served)`, called in the worker.

    Args:
        request: its body is large.
        served: the model.
        edit: can be pickled, as can its result.

    Raises:
        RequestFailedError: it takes too long or too much memory.
    """
    without_body = msgspec.structs.replace(request, body=b"", headers={}, format_error=None, worker=None)
    copy = ServedModelCopy(served.model, served.defaults, served.slot)
    try:
        return await request.worker.run(partial(_edit, edit, without_body, copy), request.body)
    except WorkerFailedError as error:
        raise RequestFailedError(TOO_COMPLEX) from error


def _edit(
    edit: Callable[[ModelRequest, ServedModel], T],
    request: ModelRequest,
    served: ServedModelCopy,
    body: bytes,
) -> T:
    return edit(msgspec.structs.replace(request, body=body), served)


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
