"""Passing a response's body on to the client as it comes, without the credentials it may repeat."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.providers.translation.failures import StreamRedactor, redact_bytes
from llmstack.units import KB

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.router.dialects.base import StreamWatch
    from llmstack.router.event_splitter import EventSplitter
    from llmstack.router.http.exchange import Exchange
    from llmstack.serving.base import ServerResponse

# After a part of this size the event loop serves others: it would read on as long as bytes come fast enough.
LARGE_PART_BYTES = 64 * KB


async def pass_events(
    exchange: Exchange, watch: StreamWatch, first: bytes, events: EventSplitter, secrets: tuple[str, ...]
) -> None:
    """Pass events on as they come.

    A chunk that the watch need not see (nearly every token) is relayed as it is, with its HTTP framing.
    """

    def pass_one(whole_events: bytes) -> bool:
        passed = redact_bytes(watch.feed(whole_events), secrets)
        goes_on = not passed or exchange.write_now(passed)
        return goes_on and len(whole_events) < LARGE_PART_BYTES

    relay_chunk = exchange.relay
    if relay_chunk is not None and secrets:
        relay_chunk = _refusing(relay_chunk, secrets)

    def relay(chunk: bytes) -> bool:
        if events.partial or relay_chunk is None or watch.must_see(chunk):
            return False
        return relay_chunk(chunk)

    all_passed = False
    if not pass_one(first):
        await exchange.drained()
    while not all_passed:
        all_passed = await events.pass_on(pass_one, relay)
        await exchange.drained()
    if watch.complete and events.rest:  # some servers leave out the blank line after the last event
        await exchange.write(redact_bytes(events.rest, secrets))


def _refusing(relay: Callable[[bytes], bool], secrets: tuple[str, ...]) -> Callable[[bytes], bool]:
    """Return a relay that does not take a chunk with a credential in it."""
    needles = [secret.encode(errors="surrogateescape") for secret in secrets]

    def relay_without_secrets(chunk: bytes) -> bool:
        return not any(needle in chunk for needle in needles) and relay(chunk)

    return relay_without_secrets


async def pass_long_body(
    exchange: Exchange,
    start: bytes,
    response: ServerResponse,
    headers: list[tuple[str, str]],
    secrets: tuple[str, ...],
) -> None:
    """Pass on a body that is too long to be held in memory; `start` was read before.

    If it breaks off, so does the client's response: it must not look complete.
    """
    redactor = StreamRedactor(secrets)

    def pass_part(part: bytes) -> bool:
        return exchange.write_now(redactor.feed(part)) and len(part) < LARGE_PART_BYTES

    try:
        exchange.start(response.status, headers)
        pass_part(start)
        del start
        await exchange.drained()
        chunks = response.chunks()
        while not await chunks.pass_on(pass_part):
            await exchange.drained()
        exchange.finish(redactor.close())
    except BaseException:
        exchange.cut()
        raise


def without_secrets(headers: list[tuple[str, str]], secrets: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return the headers whose value holds no credential."""
    if not secrets:
        return headers
    return [(name, value) for name, value in headers if not any(secret in value for secret in secrets)]
