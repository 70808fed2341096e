"""Call a model over HTTP, in the API that its provider serves."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.providers.base import RETRIES, TIMEOUT_S, Result
from llmstack.providers.catalog import PROVIDERS
from llmstack.providers.chat_completion import CompletionStream, parse_completion
from llmstack.providers.errors import (
    MalformedResponseError,
    ProviderError,
    ProviderUnreachableError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnsupportedParameterError,
)
from llmstack.providers.retries import RetryPolicy
from llmstack.providers.translation import choose_dialect, translate
from llmstack.providers.translation.failures import parse_failure, redact
from llmstack.providers.translation.sse import SseParser
from llmstack.units import MB
from llmstack.upstream.limits import MAX_ERROR_BYTES, MAX_HELD_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from llmstack.providers.base import PromptRequest
    from llmstack.providers.resolve import Endpoint
    from llmstack.providers.translation import TranslatedRequest

CONNECT_TIMEOUT_S = 10.0
NO_QUOTA_CODES = frozenset(("insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"))
"""Error codes of a 429 that waiting does not fix."""

# Parameters of `PromptRequest` that strict mode checks, as the APIs of OpenAI and Anthropic name them.
_API_NAMES = {
    "temperature": ("temperature",),
    "reasoning_effort": ("reasoning_effort", "output_config.effort"),
}


class HttpSource:
    """One model of one provider. A `ModelSource`.

    Args:
        endpoint: the model's address, headers and limits.
        timeout_s: seconds for a whole call, retries included.
        retries: how transient failures are repeated.
        strict: raise an error if the model does not accept a parameter, instead of leaving it out.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: RetryPolicy | None = None,
        strict: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._retries = retries or RetryPolicy(RETRIES)
        self._strict = strict
        # The clients of all calls share one TLS context, which reads the CA certificates.
        self._tls = httpx.create_ssl_context() if endpoint.root.startswith("https:") else True

    @property
    def provider(self) -> str:
        """Prefix of the provider."""
        return self._endpoint.provider

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._endpoint.model

    async def answer(self, request: PromptRequest) -> Result:
        """Return the result of a call."""
        body, translated = self._build_body(request, stream=False)
        async with self._time_limit(), self._client() as client:
            response = await self._send(client, body)
            data = await self._read(response, MAX_HELD_BYTES)
        if len(data) > MAX_HELD_BYTES:
            raise MalformedResponseError(
                f"{self._endpoint.label}: its answer is larger than {MAX_HELD_BYTES // MB} MB",
                provider=self.provider,
                transient=False,
            )
        return parse_completion(translated.translate_response(data) if translated else data, self._endpoint)

    async def stream(self, request: PromptRequest) -> AsyncGenerator[str | Result]:
        """Yield the output piece by piece as it arrives, and the result last."""
        body, translated = self._build_body(request, stream=True)
        completion = CompletionStream(self._endpoint)
        async with self._time_limit(), self._client() as client:
            response = await self._send(client, body)
            translation, parser = translated.start_stream() if translated else None, SseParser()
            async for chunk in self._chunks(response):
                for data in parser.feed(translation.feed(chunk) if translation else chunk):
                    for piece in completion.feed(data):
                        yield piece
            for data in [*parser.feed(translation.close() if translation else b""), *parser.close()]:
                for piece in completion.feed(data):
                    yield piece
        yield completion.result()

    async def close(self) -> None:
        """Do nothing: no connection stays open between calls."""

    @asynccontextmanager
    async def _time_limit(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise TimedOutError(
                f"{self._endpoint.label} did not answer within {self._timeout_s:g} s", provider=self.provider
            ) from error

    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(None, connect=CONNECT_TIMEOUT_S)
        # A local server is not behind the environment's proxy.
        return httpx.AsyncClient(verify=self._tls, timeout=timeout, trust_env=not self._endpoint.is_local)

    def _build_body(self, request: PromptRequest, *, stream: bool) -> tuple[bytes, TranslatedRequest | None]:
        """Return the body to send, and its translation if the provider does not serve chat completions."""
        body: dict[str, Any] = {
            "model": self.model,
            "messages": list(request.messages),
            "max_tokens": request.max_tokens,
            **request.optional_parameters,
        }
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        if self._strict:
            self._check_parameters(request)
        limits = self._endpoint.limits
        dialect = choose_dialect("chat", self._endpoint.dialects)
        if dialect is None:
            return json.dumps(limits.fit(body)).encode(), None
        translated = translate(
            json.dumps(body).encode(),
            "chat",
            dialect,
            model=self.model,
            limits=limits,
            now=int(time.time()),
            max_tokens=request.max_tokens,
        )
        return translated.body, translated

    def _check_parameters(self, request: PromptRequest) -> None:
        refuses = self._endpoint.limits.refuses
        refused = [name for name in request.optional_parameters if refuses.intersection(_API_NAMES[name])]
        if refused:
            raise UnsupportedParameterError(
                f"{self._endpoint.label} does not take {', '.join(refused)}", provider=self.provider
            )

    async def _send(self, client: httpx.AsyncClient, body: bytes) -> httpx.Response:
        """Return the response, its body not yet read; transient failures are repeated."""
        retries = 0
        while True:
            try:
                return await self._send_once(client, body)
            except ProviderError as error:
                wait_s = self._retries.next_wait_s(error, retries)
                if wait_s is None:
                    raise
            retries += 1
            await asyncio.sleep(wait_s)

    async def _send_once(self, client: httpx.AsyncClient, body: bytes) -> httpx.Response:
        dialect = self._endpoint.dialects[0]
        identity = {"accept-encoding": "identity"}  # a few bytes could become many megabytes
        headers = {**identity, **self._endpoint.default_headers(dialect), **self._endpoint.headers}
        request = client.build_request("POST", self._endpoint.url(dialect), content=body, headers=headers)
        try:
            response = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise self._unreachable_error(error) from error
        except httpx.HTTPError as error:
            raise self._connection_error(error) from error
        if response.status_code < HTTPStatus.BAD_REQUEST:
            return response
        data = await self._read(response, MAX_ERROR_BYTES)
        raise self._status_error(response, data)

    async def _read(self, response: httpx.Response, limit: int) -> bytes:
        """Return the body; if it is longer than `limit` bytes, its start, which is longer, too."""
        parts, size = [], 0
        async for chunk in self._chunks(response):
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                break
        return b"".join(parts)

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as error:
            raise self._connection_error(error) from error

    def _unreachable_error(self, error: Exception) -> ProviderUnreachableError:
        endpoint = self._endpoint
        if endpoint.is_local:
            hint = endpoint.unreachable_hint
        else:
            hint = f"check the network: {redact(str(error), endpoint.secrets) or type(error).__name__}"
        unreachable = ProviderUnreachableError(
            f"nothing answers at {endpoint.address_with_source}", provider=self.provider, hint=hint
        )
        unreachable.transient = not endpoint.is_local  # a local server does not start by itself
        return unreachable

    def _connection_error(self, error: Exception) -> MalformedResponseError:
        return MalformedResponseError(
            f"the connection to {self._endpoint.root} broke ({type(error).__name__})", provider=self.provider
        )

    def _status_error(self, response: httpx.Response, body: bytes) -> ProviderError:
        """Return the error that a status of 400 or above means."""
        endpoint, status = self._endpoint, response.status_code
        headers = {name.lower(): value for name, value in response.headers.items()}
        failure = parse_failure(status, body, headers, secrets=endpoint.secrets)
        message = f"{endpoint.label} answered {status}: {failure.message}"
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimitedError(
                message,
                provider=self.provider,
                retry_after=failure.retry_after,
                transient=failure.code not in NO_QUOTA_CODES,
            )
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            transient = status != HTTPStatus.NOT_IMPLEMENTED
            return MalformedResponseError(message, provider=self.provider, status=status, transient=transient)
        if status == HTTPStatus.REQUEST_TIMEOUT:
            return TimedOutError(message, provider=self.provider)
        return RejectedError(message, provider=self.provider, status=status, hint=_hint(endpoint, status))


def _hint(endpoint: Endpoint, status: int) -> str | None:
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        provider = PROVIDERS.get(endpoint.provider)
        return (
            f"check {' or '.join(provider.key_variables)} in the environment"
            if provider
            else "export that variable with the key that the router was started with"
        )
    if status == HTTPStatus.NOT_FOUND:
        return f"is there a model `{endpoint.model}` at {endpoint.root}?"
    return None
