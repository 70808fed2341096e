"""Read a tier's section: find its backend, check it for contradictions, build the `Tier`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from llmstack.config.model import (
    DIRECT_PROVIDERS,
    LOCAL_SERVERS,
    BackendKind,
    EngineSettings,
    GgufModel,
    HostedModel,
    McpModel,
    Model,
    Tier,
)
from llmstack.config.schema import BACKEND_KEYS, COMMON, ENGINE, LIMITS, TIER, TIER_ENGINE
from llmstack.config.values import one_of
from llmstack.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from llmstack.config.schema import Values

# Log and pid files are named after tiers; these names are used by the daemons and by the model `auto`.
RESERVED = ("auto", "router", "llama-swap", "litellm")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLAIN_KV = ("f32", "f16", "bf16")


def backend_of(tier: Values) -> BackendKind | None:
    """Return the backend of a tier; None if its section names none or an invalid one."""
    if tier.has_own("backend"):
        backend: BackendKind | None = tier.get("backend")
        return backend
    # `hf_file` alone is a mistake; the message for a gguf tier explains it best.
    if any(tier.has_own(key) for key in ("hf_repo", "hf_file", "path")):
        return BackendKind.GGUF
    model: HostedModel | None = tier.get("model")
    return None if model is None else _backend_of_model(model)


def _backend_of_model(model: HostedModel) -> BackendKind:
    return BackendKind.SERVER if model.provider in LOCAL_SERVERS else BackendKind.LITELLM


def check(tier: Values) -> Iterator[Problem]:
    """Yield what is missing or contradictory within the section of one tier."""
    if not _NAME.fullmatch(tier.name):
        message = "expected a tier's name of letters, digits and `. _ -`, 64 characters at most"
        yield Problem(tier.section.line, tier.name, message, "it starts with a letter or a digit")
    elif tier.name.lower() in RESERVED:
        yield Problem(
            tier.section.line, tier.name, f"`{tier.name}` is reserved", "call the tier something else"
        )
    yield from _check_window(tier)
    backend = backend_of(tier)
    if backend is not None:
        yield from _check_foreign_keys(tier, backend)
        yield from _CHECKS[backend](tier)
    elif not tier.has_own("backend") and not tier.has_own("model"):
        hint = "set `hf_repo` and `hf_file`, `path`, `model`, or `backend = mcp` with `command` and `tool`"
        yield tier.problem("model", "missing: nothing says what serves this tier", hint)


def _check_window(tier: Values) -> Iterator[Problem]:
    if not tier.has("ctx_size"):
        yield tier.problem(
            "ctx_size", "missing: every tier needs its window in tokens", "write `ctx_size = 64k`"
        )
    window, answer = tier.get("ctx_size"), tier.get("max_output_tokens")
    if window and answer and answer >= window:
        key = "max_output_tokens" if tier.has_own("max_output_tokens") else "ctx_size"
        yield tier.problem(
            key,
            f"an answer of {answer} tokens leaves no room for a prompt in a window of {window}",
            "set `max_output_tokens` well below `ctx_size`",
        )


def _check_foreign_keys(tier: Values, backend: BackendKind) -> Iterator[Problem]:
    for entry in tier.section.entries:
        if entry.key not in TIER or entry.key in COMMON | LIMITS | BACKEND_KEYS[backend]:
            continue
        owners = one_of(owner for owner in BackendKind if entry.key in BACKEND_KEYS[owner])
        yield tier.problem(
            entry.key,
            f"is for {owners} tiers, and this is a `{backend}` tier",
            "a tier has one backend: keep the keys of one",
        )


def _check_gguf(tier: Values) -> Iterator[Problem]:
    repo, file, path = tier.has_own("hf_repo"), tier.has_own("hf_file"), tier.has_own("path")
    if path and (repo or file):
        yield tier.problem("path", "a tier has either `path` or `hf_repo`, not both", "remove one of them")
    elif not (path or repo or file):
        yield tier.problem("backend", "a gguf tier needs a file", "set `hf_repo` and `hf_file`, or `path`")
    elif repo and not file:
        yield tier.problem("hf_repo", "needs `hf_file`, the name of one file in it")
    elif file and not repo:
        yield tier.problem("hf_file", "needs `hf_repo`, the repository it is in")
    if tier.has_own("hf_file_next") and not repo:
        yield tier.problem("hf_file_next", "needs `hf_repo`: an upgrade is fetched from the hub")
    for key in ("hf_repo_next", "size_gb_next", "quant_next"):
        if tier.has_own(key) and not tier.has_own("hf_file_next"):
            yield tier.problem(key, "needs `hf_file_next`, the queued upgrade it describes")
    if tier.get("flash_attn") == "off":
        cache_type = tier.get("cache_type_v") if tier.has("cache_type_v") else EngineSettings().cache_type_v
        if cache_type is not None and cache_type not in _PLAIN_KV:
            yield tier.problem(
                "flash_attn",
                f"llama.cpp cannot keep values as `{cache_type}` without flash attention",
                "write `cache_type_v = f16`, or leave `flash_attn = on`",
            )


def _check_hosted(tier: Values) -> Iterator[Problem]:
    if not tier.has_own("model"):
        yield tier.problem("backend", f"a {tier.get('backend')} tier needs `model = <provider>/<id>`")
    model: HostedModel | None = tier.get("model")
    next_model: HostedModel | None = tier.get("model_next")
    if tier.has_own("backend"):
        if tier.get("backend") is BackendKind.SERVER:
            yield from _check_direct(tier)
    elif model and next_model and _backend_of_model(model) is not _backend_of_model(next_model):
        yield tier.problem(
            "model_next",
            f"`{next_model.provider}/` is served by {_backend_of_model(next_model)}, "
            f"and `{model.provider}/` by {_backend_of_model(model)}",
            "an upgrade stays on the tier's backend",
        )


def _check_direct(tier: Values) -> Iterator[Problem]:
    reachable = LOCAL_SERVERS + DIRECT_PROVIDERS
    for key in ("model", "model_next"):
        model: HostedModel | None = tier.get(key)
        if model is not None and model.provider not in reachable:
            yield tier.problem(
                key,
                f"`{model.provider}/` cannot be reached with `backend = server`",
                f"{one_of(reachable)} can; or write `openai/…` and the `base_url` of a compatible API",
            )


def _check_mcp(tier: Values) -> Iterator[Problem]:
    for key in ("command", "tool"):
        if not tier.has_own(key):
            yield tier.problem("backend", f"an mcp tier needs `{key}`")


_CHECKS: Mapping[BackendKind, Callable[[Values], Iterator[Problem]]] = {
    BackendKind.GGUF: _check_gguf,
    BackendKind.LITELLM: _check_hosted,
    BackendKind.SERVER: _check_hosted,
    BackendKind.MCP: _check_mcp,
}


def build(tier: Values, base: Path, names: Mapping[str, str]) -> Tier:
    """Return the tier of a section that has no problems.

    Args:
        tier: the values of its section.
        base: directory that a relative `path` is relative to.
        names: name of a tier by its name and its aliases, for all tiers.
    """
    backend = backend_of(tier)
    if backend is None:
        raise AssertionError(tier.name)
    fields = tier.pick(LIMITS) | tier.pick(COMMON)
    if "tier" in fields:
        fields["kind"] = fields.pop("tier")
    if "fallback" in fields:
        fields["fallback"] = tuple(names[name] for name in fields["fallback"])
    fields["backend"] = backend
    if backend is BackendKind.GGUF:
        fields["engine"] = EngineSettings(**tier.pick(ENGINE), **tier.pick(TIER_ENGINE))
    model, next_model = _build_models(tier, backend, base)
    return Tier(name=tier.name, model=model, next_model=next_model, line=tier.section.line, **fields)


def _build_models(tier: Values, backend: BackendKind, base: Path) -> tuple[Model, Model | None]:
    """Return the model that a tier serves now, and its queued upgrade or None."""
    if backend is BackendKind.GGUF:
        return _build_gguf_models(tier, base)
    if backend is BackendKind.MCP:
        return McpModel(tier.get("command"), tier.get("tool")), None
    model: HostedModel = tier.get("model")
    next_model: HostedModel | None = tier.get("model_next")
    base_url = tier.get("base_url")
    return replace(model, base_url=base_url), next_model and replace(next_model, base_url=base_url)


def _build_gguf_models(tier: Values, base: Path) -> tuple[GgufModel, GgufModel | None]:
    model = GgufModel(
        repo=tier.get("hf_repo"),
        file=tier.get("hf_file"),
        path=base / tier.get("path") if tier.has_own("path") else None,
        size_gb=tier.get("size_gb"),
        quant=tier.get("quant"),
    )
    if not tier.has_own("hf_file_next"):
        return model, None
    next_model = GgufModel(
        repo=tier.get("hf_repo_next") or model.repo,
        file=tier.get("hf_file_next"),
        size_gb=tier.get("size_gb_next"),
        quant=tier.get("quant_next"),
    )
    return model, next_model
