"""Reading a chat completion, whole or as it comes, as an answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmstack.providers.base import Result, TokensUsed
from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation.base import chat_tokens
from llmstack.providers.translation.chunks import finish, said
from llmstack.providers.translation.failures import failure

if TYPE_CHECKING:
    from llmstack.providers.resolve import Endpoint

SERVER_FAILED = 500  # HTTP: what a stream that broke is as good as


def whole(data: bytes, endpoint: Endpoint) -> Result:
    """Read a whole answer.

    Raises:
        MalformedResponseError: it is no chat completion.
    """
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        output, reason = said(choice["message"]), finish(choice) or "stop"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MalformedResponseError(
            f"{endpoint.root} answered with what is no chat completion", provider=endpoint.provider
        ) from error
    tokens = _used(body.get("usage"))
    return Result(output, body.get("model") or endpoint.model, endpoint.provider, tokens, reason)


class Gathered:
    """The chunks of one stream, put together."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pieces: list[str] = []
        self._model = endpoint.model
        self._tokens = TokensUsed()
        self._reason: str | None = None

    def add(self, data: bytes) -> list[str]:
        """Take one event; return the text in it."""
        if data == b"[DONE]":
            return []
        try:
            chunk = json.loads(data)
            if chunk.get("error"):
                raise self._broken(failure(SERVER_FAILED, data, {}, secrets=self._endpoint.secrets).message)
            self._model = chunk.get("model") or self._model
            if chunk.get("usage"):
                self._tokens = _used(chunk["usage"])
            new = []
            for choice in chunk.get("choices") or ():
                self._reason = finish(choice) or self._reason
                if text := said(choice.get("delta") or {}):
                    new.append(text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._broken("its stream makes no sense") from error
        self._pieces += new
        return new

    def result(self) -> Result:
        """Return the whole answer; MalformedResponseError where it was cut."""
        if self._reason is None:
            raise self._broken("its answer ended in the middle")
        return Result("".join(self._pieces), self._model, self._endpoint.provider, self._tokens, self._reason)

    def _broken(self, why: str) -> MalformedResponseError:
        return MalformedResponseError(f"{self._endpoint.label}: {why}", provider=self._endpoint.provider)


def _used(usage: Any) -> TokensUsed:
    tokens = chat_tokens(usage)
    return TokensUsed(tokens.prompt, tokens.completion) if tokens else TokensUsed()
