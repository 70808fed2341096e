"""A model behind HTTP: asked in the provider's own API, whatever that is."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.providers.base import RETRIES, TIMEOUT_S, Result
from llmstack.providers.catalog import PROVIDERS
from llmstack.providers.chat_completion import Gathered, whole
from llmstack.providers.errors import (
    MalformedResponseError,
    ProviderError,
    ProviderUnreachableError,
    RateLimitedError,
    RejectedError,
    TimedOutError,
    UnsupportedParameterError,
)
from llmstack.providers.retries import Retries
from llmstack.providers.translation import target, translate
from llmstack.providers.translation.failures import failure, without
from llmstack.providers.translation.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from llmstack.providers.base import Ask
    from llmstack.providers.resolve import Endpoint
    from llmstack.providers.translation import Translated

CONNECT_S = 10.0
FAILED, SERVER_FAILED = 400, 500  # HTTP: from here on a status says that a request, a server failed
UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TIMED_OUT, TOO_MANY, NOT_IMPLEMENTED = 401, 403, 404, 408, 429, 501
NO_QUOTA = frozenset(("insufficient_quota", "billing_hard_limit_reached", "credit_balance_too_low"))
"""OpenAI's words, among others, for a 429 that no waiting mends."""

# What strict mode minds, by the names that Anthropic and OpenAI have for it.
_NAMES = {"temperature": ("temperature",), "reasoning_effort": ("reasoning_effort", "output_config.effort")}


class HttpSource:
    """One model of one provider.

    Args:
        endpoint: where it is.
        timeout_s: seconds for a whole call, retries included.
        retries: of what is transient.
        strict: a parameter that the model does not take is an error, not left out.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: Retries | None = None,
        strict: bool = False,
    ) -> None:
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        self._retries = retries or Retries(RETRIES)
        self._strict = strict
        # A proxy of the environment is for what is far away.
        self._tls = httpx.create_ssl_context() if endpoint.root.startswith("https:") else True

    @property
    def provider(self) -> str:
        """Its prefix."""
        return self._endpoint.provider

    @property
    def model(self) -> str:
        """The model's full name."""
        return self._endpoint.model

    async def answer(self, ask: Ask) -> Result:
        """Return a whole answer."""
        body, translated = self._request(ask, stream=False)
        async with self._within(), self._client() as client:
            response = await self._sent(client, body)
            data = await self._read(response)
        return whole(translated.answer(data) if translated else data, self._endpoint)

    async def pieces(self, ask: Ask) -> AsyncGenerator[str | Result]:
        """Yield the text as it comes, and the whole answer last."""
        body, translated = self._request(ask, stream=True)
        answer = Gathered(self._endpoint)
        async with self._within(), self._client() as client:
            response = await self._sent(client, body)
            stream, events = translated.stream() if translated else None, SseParser()
            async for chunk in self._chunks(response):
                for data in events.feed(stream.feed(chunk) if stream else chunk):
                    for piece in answer.add(data):
                        yield piece
            for data in [*events.feed(stream.close() if stream else b""), *events.end()]:
                for piece in answer.add(data):
                    yield piece
        yield answer.result()

    async def close(self) -> None:
        """Nothing is held between calls."""

    @asynccontextmanager
    async def _within(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except TimeoutError as error:
            raise TimedOutError(
                f"{self._endpoint.label} did not answer within {self._timeout_s:g} s", provider=self.provider
            ) from error

    def _client(self) -> httpx.AsyncClient:
        timeout = httpx.Timeout(None, connect=CONNECT_S)
        return httpx.AsyncClient(verify=self._tls, timeout=timeout, trust_env=not self._endpoint.local)

    def _request(self, ask: Ask, *, stream: bool) -> tuple[bytes, Translated | None]:
        """Return the body to send, and the way back where the provider's API is not chat completions."""
        request: dict[str, Any] = {
            "model": self.model,
            "messages": list(ask.messages),
            "max_tokens": ask.max_tokens,
            **ask.given,
        }
        if stream:
            request |= {"stream": True, "stream_options": {"include_usage": True}}
        limits = self._endpoint.limits
        if self._strict:
            refused = [name for name in ask.given if limits.refuses.intersection(_NAMES[name])]
            if refused:
                raise UnsupportedParameterError(
                    f"{self._endpoint.label} does not take {', '.join(refused)}", provider=self.provider
                )
        server = target("chat", self._endpoint.dialects)
        if server is None:
            return json.dumps(limits.fit(request)).encode(), None
        translated = translate(
            json.dumps(request).encode(),
            "chat",
            server,
            model=self.model,
            limits=limits,
            now=int(time.time()),
            max_tokens=ask.max_tokens,
        )
        return translated.body, translated

    async def _sent(self, client: httpx.AsyncClient, body: bytes) -> httpx.Response:
        """Return the answer, its body still to come; what is transient is tried again."""
        tried = 0
        while True:
            try:
                return await self._sent_once(client, body)
            except ProviderError as error:
                wait = self._retries.wait(error, tried)
                if wait is None:
                    raise
            tried += 1
            await asyncio.sleep(wait)

    async def _sent_once(self, client: httpx.AsyncClient, body: bytes) -> httpx.Response:
        dialect = self._endpoint.dialects[0]
        headers = {**self._endpoint.defaults(dialect), **self._endpoint.headers}
        request = client.build_request("POST", self._endpoint.url(dialect), content=body, headers=headers)
        try:
            response = await client.send(request, stream=True)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
            raise self._unreachable(error) from error
        except httpx.HTTPError as error:
            raise self._broken(error) from error
        if response.status_code < FAILED:
            return response
        data = await self._read(response)
        raise self._refused(response, data)

    async def _read(self, response: httpx.Response) -> bytes:
        return b"".join([chunk async for chunk in self._chunks(response)])

    async def _chunks(self, response: httpx.Response) -> AsyncIterator[bytes]:
        try:
            async for chunk in response.aiter_bytes():
                yield chunk
        except httpx.HTTPError as error:
            raise self._broken(error) from error

    def _unreachable(self, error: Exception) -> ProviderUnreachableError:
        where = self._endpoint
        raised = ProviderUnreachableError(
            f"nothing answers at {where.whereabouts}",
            provider=self.provider,
            hint=where.remedy
            if where.local
            else f"check the network: {without(str(error), where.secrets) or type(error).__name__}",
        )
        raised.transient = not where.local  # on this machine it is not up, and will not be in a second
        return raised

    def _broken(self, error: Exception) -> MalformedResponseError:
        return MalformedResponseError(
            f"the connection to {self._endpoint.root} broke ({type(error).__name__})", provider=self.provider
        )

    def _refused(self, response: httpx.Response, body: bytes) -> ProviderError:
        where, status = self._endpoint, response.status_code
        headers = {name.lower(): value for name, value in response.headers.items()}
        told = failure(status, body, headers, secrets=where.secrets)
        message = f"{where.label} answered {status}: {told.message}"
        if status == TOO_MANY:
            lasting = told.code in NO_QUOTA
            return RateLimitedError(
                message, provider=self.provider, retry_after=told.retry_after, transient=not lasting
            )
        if status >= SERVER_FAILED:
            passing = status != NOT_IMPLEMENTED
            return MalformedResponseError(message, provider=self.provider, status=status, transient=passing)
        if status == TIMED_OUT:
            return TimedOutError(message, provider=self.provider)
        return RejectedError(message, provider=self.provider, status=status, hint=_hint(where, status))


def _hint(where: Endpoint, status: int) -> str | None:
    if status in {UNAUTHORIZED, FORBIDDEN}:
        known = PROVIDERS.get(where.provider)
        return (
            f"check {' or '.join(known.key_variables)} in the environment"
            if known
            else "export that variable with the key that the router was started with"
        )
    if status == NOT_FOUND:
        return f"is there a model `{where.model}` at {where.root}?"
    return None
