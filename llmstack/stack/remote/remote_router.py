"""What a thin client reads from the router it uses. Nothing is cached."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from llmstack.config import parse
from llmstack.config.network import read_api_key
from llmstack.errors import LlmstackError
from llmstack.stack.remote.router_client import RouterClient, RouterUnreachableError
from llmstack.stack.remote.router_secrets import ClientKey

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.stack.remote.router_documents import StatusDocument

T = TypeVar("T")

API_KEY_ENV = "LLMSTACK_API_KEY"  # in a thin client, whatever the router's models.ini calls it
DEADLINE_S = 3.0  # in all: for the name lookup, the connection, and a response that trickles in


@dataclass(frozen=True, slots=True)
class RemoteRouter:
    """Another project's router: its address, and the models that it serves."""

    url: str
    config: StackConfig


def make_remote_client(url: str, env: Mapping[str, str]) -> RouterClient:
    """Return a client of another project's router, with the key from this environment."""
    key = read_api_key(env, API_KEY_ENV)
    return RouterClient(url, ClientKey(key) if key else None)


def fetch_router(url: str, env: Mapping[str, str]) -> RemoteRouter:
    """Return what a router serves.

    Raises:
        LlmstackError: it does not answer in time, requires another key, or is no llmstack router.
    """
    client = make_remote_client(url, env)
    text = _call_with_deadline(url, client.models_ini)
    if text.lstrip()[:1] == "<":
        raise LlmstackError(
            f"{url} answers with a web page: expected an llmstack router there", hint="check address and port"
        )
    try:
        config = parse(text, f"{url}/models.ini", base=Path(os.sep))
    except LlmstackError as error:
        raise LlmstackError(
            f"{url} serves no models.ini that this version can use",
            hint="check the address",
        ) from error
    # A router that could name the variable could have any other secret sent to it.
    return RemoteRouter(url, replace(config, settings=replace(config.settings, api_key_env=API_KEY_ENV)))


def fetch_status(url: str, env: Mapping[str, str]) -> StatusDocument:
    """Return a router's `/llmstack/status`.

    Raises:
        LlmstackError: as for `fetch_router`.
    """
    return _call_with_deadline(url, make_remote_client(url, env).status)


def _call_with_deadline(url: str, call: Callable[[], T]) -> T:
    """Return the result of `call`, or raise once the deadline has passed, even during a name lookup.

    Raises:
        LlmstackError: `call` failed, or takes too long.
    """
    results: list[T] = []
    errors: list[LlmstackError] = []

    def work() -> None:
        try:
            results.append(call())
        except RouterUnreachableError as error:
            errors.append(LlmstackError(error.message, hint="is its owner's stack running?"))
        except LlmstackError as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if results:
        return results[0]
    if errors:
        raise errors[0]
    raise LlmstackError(f"{url} did not answer within {DEADLINE_S:g} s", hint="is that the router's address?")
