"""Who may use a router: programs on this machine, and other machines only with its key."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import Settings


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether a host name or address means this machine only."""
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_api_key(env: Mapping[str, str], name: str) -> str:
    """Return the key that clients of a router send, from an environment variable; empty if it is not set.

    Raises:
        LlmstackError: the key cannot be sent in a header.
    """
    key = env.get(name, "").strip()
    if not (key.isascii() and key.isprintable()):
        raise LlmstackError(
            f"${name}: expected a key of printable ASCII characters",
            hint="a line break or a letter with an accent cannot be sent in a header: export another key",
        )
    return key


def require_router_key(host: str, settings: Settings, env: Mapping[str, str]) -> str:
    """Return the key that a router at this address requires from its clients; empty if it requires none.

    Raises:
        LlmstackError: the address is reachable from the network and no key is set.
    """
    key = read_api_key(env, settings.api_key_env)
    if not key and not is_loopback(host):
        raise LlmstackError(
            f"host {host} is reachable from the network, and ${settings.api_key_env} is not set",
            hint=f"export {settings.api_key_env}=… for the router and its clients, or use host = 127.0.0.1",
        )
    return key
