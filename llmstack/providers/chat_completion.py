"""Parse a chat completion, whole or streamed, into a result."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from llmstack.providers.base import Result, TokensUsed
from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation.completions import read_finish_reason, read_text
from llmstack.providers.translation.failures import parse_failure
from llmstack.providers.translation.usage import read_chat_usage

if TYPE_CHECKING:
    from llmstack.providers.resolve import Endpoint


def parse_completion(data: bytes, endpoint: Endpoint) -> Result:
    """Parse a whole chat completion.

    Raises:
        MalformedResponseError: it is not a chat completion.
    """
    try:
        body = json.loads(data)
        choice = body["choices"][0]
        output, reason = read_text(choice["message"]), read_finish_reason(choice) or "stop"
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise MalformedResponseError(
            f"{endpoint.root} sent a response that is not a chat completion", provider=endpoint.provider
        ) from error
    tokens = _read_tokens_used(body.get("usage"))
    return Result(output, body.get("model") or endpoint.model, endpoint.provider, tokens, reason)


class CompletionStream:
    """Collects the chunks of a streamed chat completion."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._pieces: list[str] = []
        self._model = endpoint.model
        self._tokens = TokensUsed()
        self._finish_reason: str | None = None

    def feed(self, data: bytes) -> list[str]:
        """Add the data of one event; return the text in it, by choice.

        Raises:
            MalformedResponseError: it is not a chunk of a chat completion, or reports an error.
        """
        if data == b"[DONE]":
            return []
        try:
            chunk = json.loads(data)
            if chunk.get("error"):
                failure = parse_failure(
                    HTTPStatus.INTERNAL_SERVER_ERROR, data, {}, secrets=self._endpoint.secrets
                )
                raise self._error(failure.message)
            self._model = chunk.get("model") or self._model
            if chunk.get("usage"):
                self._tokens = _read_tokens_used(chunk["usage"])
            pieces = []
            for choice in chunk.get("choices") or ():
                self._finish_reason = read_finish_reason(choice) or self._finish_reason
                if text := read_text(choice.get("delta") or {}):
                    pieces.append(text)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._error("its stream is malformed") from error
        self._pieces += pieces
        return pieces

    def result(self) -> Result:
        """Return the result of the whole stream.

        Raises:
            MalformedResponseError: the stream ended without a finish reason.
        """
        if self._finish_reason is None:
            raise self._error("its response ended in the middle")
        return Result(
            "".join(self._pieces),
            self._model,
            self._endpoint.provider,
            self._tokens,
            self._finish_reason,
        )

    def _error(self, reason: str) -> MalformedResponseError:
        return MalformedResponseError(f"{self._endpoint.label}: {reason}", provider=self._endpoint.provider)


def _read_tokens_used(usage: Any) -> TokensUsed:
    tokens = read_chat_usage(usage)
    return TokensUsed(tokens.prompt, tokens.completion) if tokens else TokensUsed()
