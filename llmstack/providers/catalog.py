"""The supported providers: addresses, APIs and environment variables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dialect = Literal["chat", "messages", "responses"]
"""OpenAI's chat completions, Anthropic's messages, OpenAI's responses."""

PATHS: dict[Dialect, str] = {"chat": "/chat/completions", "messages": "/messages", "responses": "/responses"}
"""Paths of the APIs below a provider's API root."""

LOCAL_URL_VARIABLE, LOCAL_KEY_VARIABLE = "LOCAL_LLM_BASE_URL", "LOCAL_LLM_API_KEY"
KEY_PLACEHOLDER = "none"
"""Sent to servers that need no key: some SDKs and servers reject an empty one."""

REASONING_FIELDS = ("reasoning_effort", "reasoning.effort", "output_config.effort", "thinking")
"""Fields of all dialects that set how long a model thinks; never sent to local servers."""

_ALL_DIALECTS: tuple[Dialect, ...] = ("chat", "messages", "responses")


@dataclass(frozen=True, slots=True)
class Provider:
    """A provider, selected by the prefix of a model's name.

    Attributes:
        name: the prefix, such as `anthropic`.
        address: default address, without the API root.
        dialects: APIs that it serves; requests in other APIs are translated to the first one.
        url_variables: environment variables with another address; the first one that is set wins.
        key_variables: environment variables with the API key; the first one that is set wins.
        root: path of the API, such as `/v1`; not appended to an address that contains a version.
        host_variable: variable that the server's own programs read, in a format of its own; has the lowest
            precedence.
        program: name of the program that the user starts to run it; empty for a hosted provider.
        key_header: header that carries the key.
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
    def is_local(self) -> bool:
        """Whether it runs on the developer's own machines: needs no key and gets no reasoning effort."""
        return bool(self.program)


def _local(name: str, address: str, variable: str, program: str, host_variable: str = "") -> Provider:
    return Provider(
        name,
        address,
        _ALL_DIALECTS,
        (f"{variable}_BASE_URL", LOCAL_URL_VARIABLE),
        (f"{variable}_API_KEY", LOCAL_KEY_VARIABLE),
        host_variable=host_variable,
        program=program,
    )


_GOOGLE = "https://generativelanguage.googleapis.com"
# Google's OpenAI-compatible endpoint supports tools, streaming, images, usage and thought signatures, and
# most clients speak that dialect, so their requests need no translation. Described in
# ai.google.dev/gemini-api/docs/openai
_GOOGLE_ROOT = "/v1beta/openai"

PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        # Each of these programs serves all three APIs. Sources: docs.ollama.com/api, docs.vllm.ai (online
        # serving), lmstudio.ai/docs/developer, llama.cpp tools/server/README.md
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
            ("messages",),  # its OpenAI-compatible API is "for testing" and does not cache
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

RESERVED_PREFIX = "openai-compat"

MCP_SUFFIX = "_mcp"
MCP_PROVIDERS = tuple(f"{name}{MCP_SUFFIX}" for name in ("anthropic", "openai", "mistral", "ollama"))
"""Providers that are called through an MCP server, by default `llmstack mcp`."""

FAMILIES = {"gemini": "google", "google_ai_studio": "google", "anthropic_ollama": "ollama"}
"""Provider whose short names and limits another one shares."""
