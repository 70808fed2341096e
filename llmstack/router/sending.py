"""Sending a request to whatever serves its tier, in the words of that server."""

from __future__ import annotations

import secrets
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmstack.providers.errors import ProviderError, RateLimitedError, RejectedError
from llmstack.providers.limits import ModelLimits
from llmstack.providers.mcp import chat as mcp_chat
from llmstack.providers.resolve import ANTHROPIC_VERSION
from llmstack.providers.translation import CannotTranslateError, target, translate
from llmstack.router.dialects.base import FailureReport, RequestFailedError
from llmstack.router.edits import body_for, parts_for
from llmstack.router.reply import EVENTS, JSON, StaticResponse, TranslatedResponse
from llmstack.serving.base import NO_DEFAULTS
from llmstack.serving.remote.mcp import McpLease
from llmstack.serving.remote.server import ServerLease
from llmstack.upstream.client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator, Mapping

    from llmstack.providers.catalog import Dialect as Api
    from llmstack.providers.resolve import Endpoint
    from llmstack.providers.translation import Translated
    from llmstack.router.reply import ServerResponse
    from llmstack.router.routed_request import RoutedRequest
    from llmstack.serving.base import Lease
    from llmstack.upstream.client import Upstream


_APIS: dict[str, Api] = {
    "/v1/chat/completions": "chat",
    "/chat/completions": "chat",
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/responses": "responses",
}


def send(
    upstream: Upstream, method: str, call: RoutedRequest, lease: Lease, headers: Mapping[str, str]
) -> Awaitable[ServerResponse]:
    """Send a request with a lease in hand, and wait for the status of the answer.

    Args:
        upstream: the HTTP client.
        method: of the request.
        call: the request.
        lease: of its tier.
        headers: of the request, the lease's own not among them.

    Raises:
        UpstreamError: the server cannot be reached, or the connection broke.
        RequestFailedError: the request cannot be put into the server's words.
    """
    if isinstance(lease, ServerLease):
        return _to_server(upstream, method, call, lease, headers)
    if isinstance(lease, McpLease):
        return _to_tool(call, lease)
    sent = {**headers, **lease.headers}
    return upstream.send(method, f"{lease.url}{call.target}", sent, *parts_for(call, lease))


async def _to_server(
    upstream: Upstream, method: str, call: RoutedRequest, lease: ServerLease, headers: Mapping[str, str]
) -> ServerResponse:
    endpoint = lease.endpoint
    path, mark, query = call.target.partition("?")
    client = _APIS.get(path)
    newer = headers.get("anthropic-version", ANTHROPIC_VERSION) > ANTHROPIC_VERSION
    if newer and not endpoint.local:  # newer versions of Anthropic's API take no sampler value at all
        lease = replace(lease, defaults=NO_DEFAULTS)
    sent = {**headers, **lease.headers}
    server = target(client, endpoint.dialects) if client is not None else None
    if client is None or server is None:
        url = endpoint.url(client) if client is not None else _beside(endpoint.root, path)
        body = endpoint.limits.fit_bytes(body_for(call, lease)) if call.renames else call.body
        sent = {**endpoint.defaults(client or "chat"), **sent}
        with _naming(endpoint):
            answer = await upstream.send(method, f"{url}{mark}{query}", sent, body)
        return TranslatedResponse(answer, call, lease.secrets, None)
    translated = _translated(call, lease, client, server)
    plain = {name: value for name, value in sent.items() if not name.startswith("anthropic-")}
    plain = {**endpoint.defaults(server), **plain}
    with _naming(endpoint):
        answer = await upstream.send(method, endpoint.url(server), plain, translated.body)
    return TranslatedResponse(answer, call, lease.secrets, translated)


@contextmanager
def _naming(endpoint: Endpoint) -> Iterator[None]:
    """Say whose address it was where nothing answers, since the user has set it."""
    try:
        yield
    except UpstreamError as error:
        remedy = f" ({endpoint.remedy})" if endpoint.local else ""
        raise UpstreamError(f"{endpoint.whereabouts}: {error}{remedy}") from error


def _beside(root: str, path: str) -> str:
    """Return the address of a path that is none of the three APIs, at a server with this API root."""
    if path.startswith("/v1/"):
        return f"{root}{path.removeprefix('/v1')}"
    parts = urlsplit(root)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _translated(call: RoutedRequest, lease: ServerLease, client: Api, server: Api) -> Translated:
    try:
        return translate(
            body_for(call, lease),
            client,
            server,
            model=lease.model,
            limits=lease.endpoint.limits,
            now=int(time.time()),
            max_tokens=lease.max_tokens,
        )
    except CannotTranslateError as error:
        text = f"{call.tier} is {lease.endpoint.label}, which speaks another API: {error.message}"
        raise RequestFailedError(FailureReport(400, "cannot_translate", text)) from error


async def _to_tool(call: RoutedRequest, lease: McpLease) -> ServerResponse:
    """RoutedRequest the tool of an MCP server, which knows chat completions at most."""
    client = _APIS.get(call.target.partition("?")[0])
    if client is None:
        text = f"{call.tier} is a tool of an MCP server, which serves no {call.target[:200]}"
        raise RequestFailedError(FailureReport(404, "not_found", text))
    try:
        back = _to_chat(call, lease, client) if client != "chat" else None
        ask, streams = mcp_chat.asked(back.body if back is not None else call.body)
        result = await lease.source.answer(ask)
    except CannotTranslateError as error:
        raise RequestFailedError(FailureReport(400, "cannot_translate", error.message)) from error
    except ProviderError as error:
        return StaticResponse(_status_of(error), call.dialect.error(_report(error)), JSON)
    made = mcp_chat.events if streams else mcp_chat.whole
    body = made(result, now=int(time.time()), given=secrets.token_hex(8))
    said = StaticResponse(200, body, EVENTS if streams else JSON)
    return said if back is None else TranslatedResponse(said, call, (), back)


def _to_chat(call: RoutedRequest, lease: McpLease, client: Api) -> Translated:
    return translate(call.body, client, "chat", model=lease.model, limits=ModelLimits(), now=int(time.time()))


def _status_of(error: ProviderError) -> int:
    if isinstance(error, RateLimitedError):
        return 429
    if isinstance(error, RejectedError):
        return error.status or 400
    return 502


def _report(error: ProviderError) -> FailureReport:
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return FailureReport(_status_of(error), "mcp_failed", text, "provider")
