"""One section of models.ini as a `Tier`: which backend it means, what contradicts itself, the value."""

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
from llmstack.config.schema import COMMON, ENGINE, TIER_ENGINE, LIMITS, BACKEND_KEYS, TIER
from llmstack.config.values import one_of
from llmstack.errors import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from llmstack.config.schema import Values

# Tiers name log and pid files: these are taken by the stack's own daemons, or by the router's model.
RESERVED = ("auto", "router", "llama-swap", "litellm")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_PLAIN_KV = ("f32", "f16", "bf16")


def backend_of(tier: Values) -> BackendKind | None:
    """Return how a tier is served; None where its section does not say, or says it wrong."""
    if tier.wrote("backend"):
        backend: BackendKind | None = tier.get("backend")
        return backend
    # hf_file alone is a mistake, and better explained as that of a gguf tier
    if any(tier.wrote(key) for key in ("hf_repo", "hf_file", "path")):
        return BackendKind.GGUF
    model: HostedModel | None = tier.get("model")
    return None if model is None else _backend_of_model(model)


def _backend_of_model(model: HostedModel) -> BackendKind:
    return BackendKind.SERVER if model.provider in LOCAL_SERVERS else BackendKind.LITELLM


def check(tier: Values) -> Iterator[Problem]:
    """Find what contradicts itself or is missing inside one tier's section."""
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
    elif not tier.wrote("backend") and not tier.wrote("model"):
        hint = "set `hf_repo` and `hf_file`, `path`, `model`, or `backend = mcp` with `command` and `tool`"
        yield tier.problem("model", "missing: nothing says what serves this tier", hint)


def _check_window(tier: Values) -> Iterator[Problem]:
    if not tier.known("ctx_size"):
        yield tier.problem(
            "ctx_size", "missing: every tier needs its window in tokens", "write `ctx_size = 64k`"
        )
    window, answer = tier.get("ctx_size"), tier.get("max_output_tokens")
    if window and answer and answer >= window:
        key = "max_output_tokens" if tier.wrote("max_output_tokens") else "ctx_size"
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
    repo, file, path = tier.wrote("hf_repo"), tier.wrote("hf_file"), tier.wrote("path")
    if path and (repo or file):
        yield tier.problem("path", "a tier has either `path` or `hf_repo`, not both", "remove one of them")
    elif not (path or repo or file):
        yield tier.problem("backend", "a gguf tier needs a file", "set `hf_repo` and `hf_file`, or `path`")
    elif repo and not file:
        yield tier.problem("hf_repo", "needs `hf_file`, the name of one file in it")
    elif file and not repo:
        yield tier.problem("hf_file", "needs `hf_repo`, the repository it is in")
    if tier.wrote("hf_file_next") and not repo:
        yield tier.problem("hf_file_next", "needs `hf_repo`: an upgrade is fetched from the hub")
    for key in ("hf_repo_next", "size_gb_next", "quant_next"):
        if tier.wrote(key) and not tier.wrote("hf_file_next"):
            yield tier.problem(key, "needs `hf_file_next`, the queued upgrade it describes")
    if tier.get("flash_attn") == "off":
        cache_type = tier.get("cache_type_v") if tier.known("cache_type_v") else EngineSettings().cache_type_v
        if cache_type is not None and cache_type not in _PLAIN_KV:
            yield tier.problem(
                "flash_attn",
                f"llama.cpp cannot keep values as `{cache_type}` without flash attention",
                "write `cache_type_v = f16`, or leave `flash_attn = on`",
            )


def _check_hosted(tier: Values) -> Iterator[Problem]:
    if not tier.wrote("model"):
        yield tier.problem("backend", f"a {tier.get('backend')} tier needs `model = <provider>/<id>`")
    model: HostedModel | None = tier.get("model")
    queued: HostedModel | None = tier.get("model_next")
    if tier.wrote("backend"):
        if tier.get("backend") is BackendKind.SERVER:
            yield from _check_direct(tier)
    elif model and queued and _backend_of_model(model) is not _backend_of_model(queued):
        yield tier.problem(
            "model_next",
            f"`{queued.provider}/` is served by {_backend_of_model(queued)}, "
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
        if not tier.wrote(key):
            yield tier.problem("backend", f"an mcp tier needs `{key}`")


_CHECKS: Mapping[BackendKind, Callable[[Values], Iterator[Problem]]] = {
    BackendKind.GGUF: _check_gguf,
    BackendKind.LITELLM: _check_hosted,
    BackendKind.SERVER: _check_hosted,
    BackendKind.MCP: _check_mcp,
}


def build(tier: Values, base: Path, names: Mapping[str, str]) -> Tier:
    """Return the tier of a section that has no problem.

    Args:
        tier: its section.
        base: the directory that a relative `path` starts from.
        names: every tier's name by its name and aliases.
    """
    backend = backend_of(tier)
    if backend is None:
        raise AssertionError(tier.name)
    given = tier.pick(LIMITS) | tier.pick(COMMON)
    if "tier" in given:
        given["kind"] = given.pop("tier")
    if "fallback" in given:
        given["fallback"] = tuple(names[name] for name in given["fallback"])
    given["backend"] = backend
    if backend is BackendKind.GGUF:
        given["engine"] = EngineSettings(**tier.pick(ENGINE), **tier.pick(TIER_ENGINE))
    model, queued = _models(tier, backend, base)
    return Tier(name=tier.name, model=model, next_model=queued, line=tier.section.line, **given)


def _models(tier: Values, backend: BackendKind, base: Path) -> tuple[Model, Model | None]:
    """Return what a tier serves now, and its queued upgrade."""
    if backend is BackendKind.GGUF:
        return _ggufs(tier, base)
    if backend is BackendKind.MCP:
        return McpModel(tier.get("command"), tier.get("tool")), None
    now: HostedModel = tier.get("model")
    queued: HostedModel | None = tier.get("model_next")
    base_url = tier.get("base_url")
    return replace(now, base_url=base_url), queued and replace(queued, base_url=base_url)


def _ggufs(tier: Values, base: Path) -> tuple[GgufModel, GgufModel | None]:
    now = GgufModel(
        repo=tier.get("hf_repo"),
        file=tier.get("hf_file"),
        path=base / tier.get("path") if tier.wrote("path") else None,
        size_gb=tier.get("size_gb"),
        quant=tier.get("quant"),
    )
    if not tier.wrote("hf_file_next"):
        return now, None
    queued = GgufModel(
        repo=tier.get("hf_repo_next") or now.repo,
        file=tier.get("hf_file_next"),
        size_gb=tier.get("size_gb_next"),
        quant=tier.get("quant_next"),
    )
    return now, queued
