"""Translate between client APIs and the APIs of providers: requests, responses, streams, usage, tool calls.

Written by hand: the libraries for it are proxies themselves, or need 199 MB of memory (litellm).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation import chat_on_messages, messages_on_chat, responses_on_chat
from llmstack.providers.translation.base import CannotTranslateError, EventTranslator, Json, is_too_complex
from llmstack.providers.translation.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmstack.providers.catalog import Dialect
    from llmstack.providers.limits import ModelLimits
    from llmstack.providers.translation.responses_on_chat.tools import ToolNames

__all__ = ["CannotTranslateError", "StreamTranslation", "TranslatedRequest", "choose_dialect", "translate"]

DEFAULT_MAX_TOKENS = 4096
KEEP_ALIVE = b":\n\n"  # an SSE comment, sent for provider events that the client's API does not have
# What the translators raise for a body or an event of the wrong shape.
MALFORMED_ERRORS = (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError)


def choose_dialect(client: Dialect, dialects: Sequence[Dialect]) -> Dialect | None:
    """Return the API to translate a request to; None if the provider serves the client's API.

    Args:
        client: the client's API.
        dialects: the provider's APIs, the preferred one first.
    """
    return None if client in dialects else dialects[0]


@dataclass(frozen=True, slots=True)
class TranslatedRequest:
    """A request in the provider's API, and the translation of its response. It can be pickled.

    Attributes:
        client: the client's API.
        server: the provider's API.
        body: to send to the provider.
        streams: whether the client wants a stream of events.
    """

    client: Dialect
    server: Dialect
    body: bytes
    streams: bool
    _translate_response: Callable[[Json], Json]
    _make_event_translator: Callable[[], EventTranslator]

    def translate_response(self, body: bytes) -> bytes:
        """Translate a whole response that is no error.

        Raises:
            MalformedResponseError: it is not a response of the provider's API.
        """
        try:
            return _dump(self._translate_response(json.loads(body)))
        except MALFORMED_ERRORS as error:
            raise MalformedResponseError(
                f"the provider's response is malformed: {_explain(error)}"
            ) from error

    def start_stream(self) -> StreamTranslation:
        """Return the translation of one streamed response."""
        return StreamTranslation(self._make_event_translator(), self.client)


class StreamTranslation:
    """Translates the bytes of a provider's stream to those of the client's, as they arrive."""

    def __init__(self, translator: EventTranslator, client: Dialect) -> None:
        self._translator = translator
        self._client = client
        self._parser = SseParser()

    def feed(self, chunk: bytes) -> bytes:
        """Return the translation of the events that this chunk completes; empty if there are none.

        Raises:
            MalformedResponseError: an event is not one of the provider's API.
        """
        return self._translate(self._parser.feed(chunk))

    def close(self) -> bytes:
        """Return the events that follow the end of the provider's stream.

        If that stream was cut off there are none: the client finds neither a finish reason nor an error.
        """
        return self._translate([*self._parser.close(), b"[DONE]"])

    def _translate(self, events: Iterable[bytes]) -> bytes:
        translator, output, has_events = self._translator, [], False
        for data in events:
            if translator.is_complete:
                break
            has_events = True
            if is_too_complex(data):
                raise MalformedResponseError("an event of the provider's stream holds too many objects")
            try:
                translated = (
                    translator.finish() if data == b"[DONE]" else translator.translate(json.loads(data))
                )
            except MALFORMED_ERRORS as error:
                raise MalformedResponseError(
                    f"the provider's stream is malformed: {_explain(error)}"
                ) from error
            output += [self._encode(event) for event in translated]
            if self._client == "chat" and translator.is_complete and not translator.has_failed:
                output.append(b"data: [DONE]\n\n")
        return b"".join(output) or (KEEP_ALIVE if has_events and not translator.is_complete else b"")

    def _encode(self, event: Json) -> bytes:
        name = b"" if self._client == "chat" else b"event: " + event["type"].encode() + b"\n"
        return b"".join((name, b"data: ", _dump(event), b"\n\n"))


def translate(
    body: bytes,
    client: Dialect,
    server: Dialect,
    *,
    model: str,
    limits: ModelLimits,
    now: int,
    max_tokens: int | None = None,
) -> TranslatedRequest:
    """Translate a request.

    Args:
        body: the client's request.
        client: the client's API.
        server: the provider's API, from `choose_dialect`.
        model: the model's name at the provider.
        limits: what the model does not accept, which is left out.
        now: seconds since the epoch, for responses that carry a date.
        max_tokens: sent if the client sets no maximum and the provider requires one.

    Raises:
        CannotTranslateError: the body is no request, or uses a feature that the provider's API lacks.
    """
    try:
        request = {**json.loads(body), "model": model}
        translated, translate_response, make_event_translator = _translate_request(
            request, client, server, now=now, max_tokens=max_tokens or DEFAULT_MAX_TOKENS
        )
    except MALFORMED_ERRORS as error:
        raise CannotTranslateError(f"the body is no request of this API: {_explain(error)}") from error
    return TranslatedRequest(
        client,
        server,
        _dump(limits.fit(translated)),
        bool(request.get("stream")),
        translate_response,
        make_event_translator,
    )


_Translation = tuple[Json, "Callable[[Json], Json]", "Callable[[], EventTranslator]"]


def _translate_request(
    request: Json, client: Dialect, server: Dialect, *, now: int, max_tokens: int
) -> _Translation:
    """Return the request, and the translators of a whole response and of a stream."""
    if (client, server) == ("chat", "messages"):
        include_usage = bool((request.get("stream_options") or {}).get("include_usage"))
        return (
            chat_on_messages.translate_request(request, max_tokens=max_tokens),
            partial(chat_on_messages.translate_response, now=now),
            partial(chat_on_messages.MessagesStreamToChat, now=now, include_usage=include_usage),
        )
    if (client, server) == ("messages", "chat"):
        return (
            messages_on_chat.translate_request(request),
            messages_on_chat.translate_response,
            messages_on_chat.ChatStreamToMessages,
        )
    if client == "responses":
        chat, names = responses_on_chat.translate_request(request)
        if server == "chat":
            return (
                chat,
                partial(_translate_chat, names=names),
                partial(responses_on_chat.ChatStreamToResponses, names),
            )
        if server == "messages":  # by way of a chat completion
            translated, to_chat, make_chat_translator = _translate_request(
                chat, "chat", "messages", now=now, max_tokens=max_tokens
            )
            return (
                translated,
                partial(_translate_by_way_of_chat, to_chat=to_chat, names=names),
                partial(_make_chain, make_chat_translator, names),
            )
    raise CannotTranslateError(f"requests of `{client}` cannot be translated to `{server}`")


def _translate_chat(body: Json, *, names: ToolNames) -> Json:
    return responses_on_chat.translate_response(body, names)


def _translate_by_way_of_chat(body: Json, *, to_chat: Callable[[Json], Json], names: ToolNames) -> Json:
    return responses_on_chat.translate_response(to_chat(body), names)


def _make_chain(make_first: Callable[[], EventTranslator], names: ToolNames) -> EventTranslator:
    return _Chain(make_first(), responses_on_chat.ChatStreamToResponses(names))


class _Chain:
    """Two event translators, the second one fed by the first."""

    def __init__(self, first: EventTranslator, second: EventTranslator) -> None:
        self._first, self._second = first, second

    @property
    def is_complete(self) -> bool:
        return self._second.is_complete

    @property
    def has_failed(self) -> bool:
        return self._second.has_failed

    def translate(self, event: Json) -> list[Json]:
        events = [
            translated
            for chunk in self._first.translate(event)
            for translated in self._second.translate(chunk)
        ]
        return [*events, *self._second.finish()] if self._first.is_complete else events

    def finish(self) -> list[Json]:
        return []


def _dump(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _explain(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
