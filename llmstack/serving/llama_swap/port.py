"""Where llama-swap listens; by itself, so that asking for it imports no HTTP library."""

from __future__ import annotations

from llmstack.errors import LlmstackError
from llmstack.process.ports import is_free, port_owner

HOST = "127.0.0.1"


def refuse_taken_port(port: int) -> None:
    """Raise where llama-swap could not listen: LlmstackError, naming who does."""
    if not is_free(HOST, port):
        who = port_owner(port)
        raise LlmstackError(
            f"port {port} for llama-swap is taken{f' by {who}' if who else ''}",
            hint="stop that program, or set another `swap_port` in models.ini",
        )
