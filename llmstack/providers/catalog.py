"""The providers there are: where each one is, which APIs it speaks, which variables belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["chat", "messages", "responses"]
"""OpenAI's chat completions, Anthropic's messages, OpenAI's responses."""

PATHS: dict[Dialect, str] = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}
"""Below a provider's API root."""

LOCAL_URL, LOCAL_KEY = "LOCAL_LLM_BASE_URL", "LOCAL_LLM_API_KEY"
PLACEHOLDER = "none"
"""Sent where a server wants no key: some SDKs and servers insist on one that is not empty."""

EFFORT = ("reasoning_effort", "reasoning.effort", "output_config.effort", "thinking")
"""Fields that set how long a model thinks, in any dialect; local servers are not sent them."""

_EVERYTHING: tuple[Dialect, ...] = ("chat", "messages", "responses")


@dataclass(frozen=True, slots=True)
class Provider:
    """One prefix of a model's name.

    Attributes:
        address: where it is, without the API's own path.
        root: that path, such as `/v1`; left out of an address that names a version already.
        dialects: what it speaks itself; we speak the first one with it.
        url_variables: that may name another address, the first that is set wins; `key_variables` likewise.
        host_variable: that its own programs go by, in forms of its own; looked at after all of these.
        program: what is to be started where nothing answers; empty where it is not for the user to start.
        key_header: how the key is sent.
    """

    name: str
    address: str
    dialects: tuple[Dialect, ...]
    url_variables: tuple[str, ...]
    key_variables: tuple[str, ...]
    root: str = "/v1"
    host_variable: str = ""
    program: str = ""
    key_header: Literal["authorization", "x-api-key"] = "authorization"

    @property
    def local(self) -> bool:
        """Whether it runs on the developer's own machines: no key is needed, no reasoning effort is sent."""
        return bool(self.program)


def _local(name: str, address: str, variable: str, program: str, host_variable: str = "") -> Provider:
    return Provider(
        name,
        address,
        _EVERYTHING,
        (f"{variable}_BASE_URL", LOCAL_URL),
        (f"{variable}_API_KEY", LOCAL_KEY),
        host_variable=host_variable,
        program=program,
    )


_GOOGLE = "https://generativelanguage.googleapis.com"
# Its OpenAI-compatible endpoint serves tools, streaming, images, usage and thought signatures, and most
# clients speak that dialect already: their bytes pass. Source: ai.google.dev/gemini-api/docs/openai
_GOOGLE_ROOT = "/v1beta/openai"

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        # Each of the four serves the three APIs. Sources: docs.ollama.com/api, docs.vllm.ai (online serving),
        # lmstudio.ai/docs/developer, llama.cpp tools/server/README.md
        _local("ollama", "http://localhost:11434", "OLLAMA", "Ollama", "OLLAMA_HOST"),
        _local("vllm", "http://localhost:8000", "VLLM", "vLLM"),
        _local("lm_studio", "http://localhost:1234", "LMSTUDIO", "LM Studio"),
        _local("llamacpp", "http://localhost:8080", "LLAMACPP", "llama-server"),
        _local("devstral_local", "http://127.0.0.1:8080", "DEVSTRAL_LOCAL", "llama-server"),
        Provider(
            "anthropic_ollama",
            "http://localhost:11434",
            ("messages",),
            ("ANTHROPIC_BASE_URL",),
            ("ANTHROPIC_AUTH_TOKEN",),
            host_variable="OLLAMA_HOST",
            program="Ollama",
        ),
        Provider(
            "anthropic",
            "https://api.anthropic.com",
            ("messages",),  # what it has of OpenAI's API is "for testing", without caching
            ("ANTHROPIC_BASE_URL",),
            ("ANTHROPIC_API_KEY",),
            key_header="x-api-key",
        ),
        Provider(
            "openai",
            "https://api.openai.com",
            ("chat", "responses"),
            ("OPENAI_BASE_URL",),
            ("OPENAI_API_KEY",),
        ),
        Provider(
            "google",
            _GOOGLE,
            ("chat",),
            ("GOOGLE_BASE_URL", "GEMINI_BASE_URL"),
            ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
            root=_GOOGLE_ROOT,
        ),
        Provider(
            "gemini",
            _GOOGLE,
            ("chat",),
            ("GEMINI_BASE_URL", "GOOGLE_BASE_URL"),
            ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            root=_GOOGLE_ROOT,
        ),
        Provider(
            "google_ai_studio",
            _GOOGLE,
            ("chat",),
            ("GOOGLE_BASE_URL", "GEMINI_BASE_URL"),
            ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
            root=_GOOGLE_ROOT,
        ),
        Provider(
            "mistral",
            "https://api.mistral.ai",
            ("chat",),
            ("MISTRAL_BASE_URL",),
            ("MISTRAL_API_KEY",),
        ),
    )
}

RESERVED = "openai-compat"

MCP_SUFFIX = "_mcp"
MCP_FORMS = tuple(f"{name}{MCP_SUFFIX}" for name in ("anthropic", "openai", "mistral", "ollama"))
"""Providers behind an MCP server: `llmstack mcp`, unless told otherwise."""

FAMILIES = {"gemini": "google", "google_ai_studio": "google", "anthropic_ollama": "ollama"}
"""Whose short names and limits a provider shares."""
