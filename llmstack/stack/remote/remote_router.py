"""A thin client's view of the router it uses: nothing of it is kept."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmstack.channel import read_marker
from llmstack.config import parse
from llmstack.config.network import api_key
from llmstack.errors import LlmstackError
from llmstack.stack.remote.router_client import RouterClient, RouterUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project

Answer = TypeVar("Answer")

KEY = "LLMSTACK_API_KEY"  # on both sides, whatever the router's models.ini calls it
DEADLINE_S = 3.0  # for everything: looking the name up, connecting, an answer that trickles


@dataclass(frozen=True, slots=True)
class Remote:
    """A router of somebody else: its address, and its models as clients of it see them."""

    url: str
    config: StackConfig


def remote_url(project: Project | None) -> str | None:
    """Return the router that a thin client uses; None for a project with models of its own."""
    pinned = read_marker(project.default_channel) if project is not None else None
    return pinned.url if pinned is not None else None


def client_of(url: str, env: Mapping[str, str]) -> RouterClient:
    """Return what talks to a router, with the key of this environment."""
    return RouterClient(url, api_key(env, KEY))


def fetch(url: str, env: Mapping[str, str]) -> Remote:
    """Return what a router serves.

    Raises:
        LlmstackError: it does not answer in time, wants another key, or is no llmstack router.
    """
    client = client_of(url, env)
    text = _in_time(url, client.models_ini)
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
    return Remote(url, replace(config, settings=replace(config.settings, api_key_env=KEY)))


def fetch_status(url: str, env: Mapping[str, str]) -> dict[str, Any]:
    """Return what a router says of itself.

    Raises:
        LlmstackError: as for `fetch`.
    """
    return _in_time(url, client_of(url, env).status)


def _in_time(url: str, ask: Callable[[], Answer]) -> Answer:
    """Return the answer, within the deadline even where a name is looked up in vain."""
    answers: list[Answer] = []
    errors: list[LlmstackError] = []

    def work() -> None:
        try:
            answers.append(ask())
        except RouterUnreachableError as error:
            errors.append(LlmstackError(error.message, hint="is its owner's stack running?"))
        except LlmstackError as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    if answers:
        return answers[0]
    if errors:
        raise errors[0]
    raise LlmstackError(f"{url} did not answer within {DEADLINE_S:g} s", hint="is that the router's address?")
