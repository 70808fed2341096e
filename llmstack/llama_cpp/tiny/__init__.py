"""Write tiny GGUF models in milliseconds, without a download; llama.cpp runs them like any other model."""

from __future__ import annotations

from llmstack.llama_cpp.tiny.echo_model import write_echo
from llmstack.llama_cpp.tiny.random_model import write_random

__all__ = ["write_echo", "write_random"]
