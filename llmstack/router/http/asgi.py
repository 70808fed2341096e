"""A bridge to ASGI applications, which serve the admin routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from llmstack.router.http.exchange import Exchange

    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


async def answer_with(app: AsgiApp, exchange: Exchange, body: bytes) -> None:
    """Let an ASGI application answer a request."""
    body_sent = False

    async def receive() -> Message:
        nonlocal body_sent
        if body_sent:
            await exchange.client_gone()
            return {"type": "http.disconnect"}
        body_sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            fields, length = [], None
            for name, value in message.get("headers", ()):
                if name == b"content-length":  # ASGI's names are in lower case
                    length = int(value)
                else:
                    fields.append((name.decode("latin-1"), value.decode("latin-1")))
            exchange.start(message["status"], fields, length)
        elif message.get("more_body", False):
            await exchange.write(message.get("body", b""))
        else:
            exchange.finish(message.get("body", b""))

    await app(_scope(exchange), receive, send)


def _scope(exchange: Exchange) -> Message:
    raw_path, _, query = exchange.target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": exchange.method,
        "scheme": "http",
        "path": exchange.path,
        "raw_path": raw_path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [
            (name.encode("latin-1"), value.encode("latin-1")) for name, value in exchange.headers.items()
        ],
        "client": None,
        "server": None,
    }
