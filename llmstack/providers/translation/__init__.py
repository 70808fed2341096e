"""One client API at a provider that speaks another: requests, answers, streams, tokens, tool calls, errors.

Written by hand: the libraries there are for it are proxies of their own, or weigh 199 MB in memory (litellm).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.providers.errors import MalformedResponseError
from llmstack.providers.translation.base import CannotTranslateError, Json, Rewriter
from llmstack.providers.translation.chat_on_messages import answer as from_messages
from llmstack.providers.translation.chat_on_messages import request as to_messages
from llmstack.providers.translation.messages_on_chat import answer as as_messages
from llmstack.providers.translation.messages_on_chat import request as from_messages_client
from llmstack.providers.translation.responses_on_chat import answer as as_response
from llmstack.providers.translation.responses_on_chat import request as from_responses_client
from llmstack.providers.translation.responses_on_chat import stream as as_response_events
from llmstack.providers.translation.sse import SseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmstack.providers.catalog import Dialect
    from llmstack.providers.limits import ModelLimits

__all__ = ["CannotTranslateError", "StreamTranslation", "Translated", "target", "translate"]

DEFAULT_MAX_TOKENS = 4096
KEEP_ALIVE = b":\n\n"  # a comment: something came that has no word in the client's API
# What a body or an answer of the wrong shape makes the code below raise.
_MISSHAPEN = (KeyError, TypeError, AttributeError, ValueError, IndexError, RecursionError)


def target(client: Dialect, dialects: Sequence[Dialect]) -> Dialect | None:
    """Return the API to translate to for a provider that speaks these; None where nothing is to translate."""
    return None if client in dialects else dialects[0]


@dataclass(frozen=True, slots=True)
class Translated:
    """A request in the provider's API, and the way back.

    Attributes:
        client: the API of the client; `server` the provider's.
        body: to send to the provider.
        streams: the client wants events.
    """

    client: Dialect
    server: Dialect
    body: bytes
    streams: bool
    _answer: Callable[[Json], Json]
    _rewriter: Callable[[], Rewriter]

    def answer(self, body: bytes) -> bytes:
        """Translate a whole answer that was no error.

        Raises:
            MalformedResponseError: it is not an answer of the provider's API.
        """
        try:
            return _json(self._answer(json.loads(body)))
        except _MISSHAPEN as error:
            raise MalformedResponseError(f"the provider's answer makes no sense: {_reason(error)}") from error

    def stream(self) -> StreamTranslation:
        """Return what translates the events of the answer."""
        return StreamTranslation(self._rewriter(), self.client)


class StreamTranslation:
    """Bytes of the provider's stream → bytes of the client's, as they come."""

    def __init__(self, rewriter: Rewriter, client: Dialect) -> None:
        self._rewriter = rewriter
        self._client = client
        self._events = SseParser()

    def feed(self, chunk: bytes) -> bytes:
        """Return what these bytes become; empty while an event is not whole.

        Raises:
            MalformedResponseError: they are not events of the provider's API.
        """
        return self._rewritten(self._events.feed(chunk))

    def close(self) -> bytes:
        """Return what is left to say once the provider's stream has ended.

        One that was cut gets no end: whoever reads on finds neither a finish reason nor an error there.
        """
        return self._rewritten([*self._events.end(), b"[DONE]"])

    def _rewritten(self, events: Iterable[bytes]) -> bytes:
        written, any_came = [], False
        for data in events:
            if self._rewriter.complete:
                break
            any_came = True
            try:
                said = self._rewriter.end() if data == b"[DONE]" else self._rewriter.event(json.loads(data))
            except _MISSHAPEN as error:
                raise MalformedResponseError(
                    f"the provider's stream makes no sense: {_reason(error)}"
                ) from error
            written += [self._event(event) for event in said]
            if self._client == "chat" and self._rewriter.complete and not self._rewriter.failed:
                written.append(b"data: [DONE]\n\n")
        return b"".join(written) or (KEEP_ALIVE if any_came and not self._rewriter.complete else b"")

    def _event(self, event: Json) -> bytes:
        name = b"" if self._client == "chat" else b"event: " + event["type"].encode() + b"\n"
        return b"".join((name, b"data: ", _json(event), b"\n\n"))


def translate(
    body: bytes,
    client: Dialect,
    server: Dialect,
    *,
    model: str,
    limits: ModelLimits,
    now: int,
    max_tokens: int | None = None,
) -> Translated:
    """Translate a request.

    Args:
        body: the client's.
        client: its API.
        server: the provider's; `target` says which.
        model: its name at the provider.
        limits: what it does not accept, which is left out.
        now: seconds since the epoch, for answers that are dated.
        max_tokens: of the answer, where the client gives no maximum and the provider wants one.

    Raises:
        CannotTranslateError: the request uses what the provider's API has no word for, or is none.
    """
    try:
        request = {**json.loads(body), "model": model}
        made = _made(request, client, server, now=now, max_tokens=max_tokens or DEFAULT_MAX_TOKENS)
    except _MISSHAPEN as error:
        raise CannotTranslateError(f"the body is no request of this API: {_reason(error)}") from error
    translated, answer, rewriter = made
    return Translated(
        client, server, _json(limits.fit(translated)), bool(request.get("stream")), answer, rewriter
    )


_Made = tuple[Json, "Callable[[Json], Json]", "Callable[[], Rewriter]"]


def _made(request: Json, client: Dialect, server: Dialect, *, now: int, max_tokens: int) -> _Made:
    """Return the request, and what translates a whole answer and a stream back."""
    if (client, server) == ("chat", "messages"):
        wanted = bool((request.get("stream_options") or {}).get("include_usage"))
        return (
            to_messages.request(request, max_tokens=max_tokens),
            lambda body: from_messages.answer(body, now=now),
            lambda: from_messages.Stream(now=now, usage_wanted=wanted),
        )
    if (client, server) == ("messages", "chat"):
        return from_messages_client.request(request), as_messages.answer, as_messages.Stream
    if client == "responses":
        chat, names = from_responses_client.request(request)
        if server == "chat":
            return (
                chat,
                lambda body: as_response.answer(body, names),
                lambda: as_response_events.Stream(names),
            )
        if server == "messages":  # through a chat completion
            there, back, events = _made(chat, "chat", "messages", now=now, max_tokens=max_tokens)
            return (
                there,
                lambda body: as_response.answer(back(body), names),
                lambda: _Both(events(), as_response_events.Stream(names)),
            )
    raise CannotTranslateError(f"requests of `{client}` cannot be translated to `{server}`")


class _Both:
    """Two translations one after the other."""

    def __init__(self, first: Rewriter, second: Rewriter) -> None:
        self._first, self._second = first, second

    @property
    def complete(self) -> bool:
        return self._second.complete

    @property
    def failed(self) -> bool:
        return self._second.failed

    def event(self, data: Json) -> list[Json]:
        events = [event for chunk in self._first.event(data) for event in self._second.event(chunk)]
        return [*events, *self._second.end()] if self._first.complete else events

    def end(self) -> list[Json]:
        return []


def _json(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


def _reason(error: Exception) -> str:
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
