"""What a router answers, decoded once into values of known types.

Whatever answers at the address of a router may be anything: nothing of it is used before it was validated.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from llmstack.errors import LlmstackError

SHOWN_CHARS = 2000  # of an error that a router answers with

# Limits far above what a router has, so that every value can be shown, and given to the operating system.
Text = Annotated[str, Meta(max_length=16_384)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Number = Annotated[float, Meta(ge=0, le=2**53)]
Pid = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


class ChallengeDocument(msgspec.Struct, frozen=True):
    """The proofs of a router, see `router_proof`."""

    token: Text | None = None
    key: Text | None = None


class TierDocument(msgspec.Struct, frozen=True):
    """One tier, as `/llmstack/status` lists it."""

    name: Text
    backend: Text
    model: Text
    channel: Text
    ctx_size: Count
    state: Text
    role: Text | None = None
    can_start: bool = True
    pid: Pid | None = None
    leases: Count = 0
    waiting: Count = 0
    detail: Text = ""


class SwapperDocument(msgspec.Struct, frozen=True):
    """The swapper; only llama-swap has a port and a pid of its own."""

    kind: Text
    engine: Text | None
    budget_gb: Number
    prompt_cache: Text
    sets: list[list[Text]]
    port: Port | UnsetType = UNSET
    pid: Pid | UnsetType | None = UNSET


class LitellmDocument(msgspec.Struct, frozen=True):
    """The LiteLLM proxy."""

    state: Text
    port: Port
    ui: Text
    mcp: Text
    key_file: Text
    pid: Pid | None = None
    detail: Text = ""


class RequestDocument(msgspec.Struct, frozen=True):
    """One of the last requests; times are seconds."""

    id: Text
    at: Number
    path: Text
    asked: Text
    tier: Text
    reason: Text
    tokens: Count
    status: Count
    first_byte_s: Number | None
    total_s: Number
    outcome: Text


class BackendsDocument(msgspec.Struct, frozen=True):
    """The backends that report something of their own."""

    litellm: LitellmDocument | None = None


class StatusDocument(msgspec.Struct, frozen=True):
    """`/llmstack/status`; `started` is in seconds since the epoch."""

    work_dir: Text
    channel: Text
    started: Number
    swapper: SwapperDocument
    tiers: list[TierDocument]
    preload: Text | None = None
    backends: BackendsDocument = BackendsDocument()
    recent: list[RequestDocument] = []


class RuleDocument(msgspec.Struct, frozen=True):
    """One rule that was tried."""

    rule: Text
    tier: Text
    detail: Text


class RouteDocument(msgspec.Struct, frozen=True):
    """`/llmstack/route`."""

    tier: Text
    reason: Text
    conversation_tokens: Count
    context_tokens: Count
    others: tuple[Text, ...] = ()
    considered: tuple[RuleDocument, ...] = ()
    session_known: bool = False


class LoadDocument(msgspec.Struct, frozen=True):
    """`/llmstack/load/<tier>`."""

    tier: Text


class UnloadDocument(msgspec.Struct, frozen=True):
    """`/llmstack/unload`."""

    unloaded: list[Text]


class ReloadDocument(msgspec.Struct, frozen=True):
    """`/llmstack/reload`."""

    changed: list[Text]
    unavailable: dict[Text, Text]
    cut: list[Text]


class _Error(msgspec.Struct, frozen=True):
    message: str


class _ErrorDocument(msgspec.Struct, frozen=True):
    error: _Error


D = TypeVar("D", bound=msgspec.Struct)


def decode(url: str, body: str, kind: type[D]) -> D:
    """Return the document in a response of the router at `url`.

    Raises:
        LlmstackError: it is no such document.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise LlmstackError(
            f"{url} answers, but is no llmstack router that this version understands: {error}",
            hint="check the address, and that both run the same version of llmstack",
        ) from error


def response_error(url: str, status: int, body: str) -> LlmstackError:
    """Return the error that a router answered with."""
    try:
        message = msgspec.json.decode(body, type=_ErrorDocument).error.message[:SHOWN_CHARS]
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return LlmstackError(f"{url} answered {status}: expected an llmstack router there")
    hint = "export the router's key in this terminal too" if status == HTTPStatus.UNAUTHORIZED else None
    return LlmstackError(message, hint=hint)


def as_dict(document: msgspec.Struct) -> dict[str, Any]:
    """Return a document as JSON shows it."""
    fields: dict[str, Any] = msgspec.to_builtins(document)
    return fields
