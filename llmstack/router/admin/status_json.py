"""What the router tells of itself, as JSON: its models, and how things stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.config.model import BackendKind
from llmstack.policy.decision import AUTO
from llmstack.policy.ladder import auto_context
from llmstack.process.identity import running

if TYPE_CHECKING:
    from llmstack.config.model import Tier
    from llmstack.router.service import Service


def models(service: Service) -> list[dict[str, Any]]:
    """Return the entries of `/v1/models`: `auto`, then every tier, each followed by its aliases."""
    entries = [
        {
            **_entry(AUTO, service.started),
            "description": "picks a tier for each request",
            "context_window": auto_context(service.config, service.unavailable),
            "backend": "router",
            "channel": str(service.channel),
            "state": "resident",
        }
    ]
    for tier in service.config.tiers.values():
        about = {
            "description": tier.description,
            "context_window": tier.ctx_size,
            "backend": tier.backend,
            "role": tier.role,
            "channel": tier.channel,
            "model": tier.model.label,
        }
        if tier.backend is BackendKind.GGUF:
            about["state"] = service.state(tier).state
        entries.append({**_entry(tier.name, service.started), **about, "aliases": tier.aliases})
        entries += [
            {**_entry(alias, service.started), **about, "alias_of": tier.name} for alias in tier.aliases
        ]
    return entries


def status(service: Service) -> dict[str, Any]:
    """Return the document of `/llmstack/status`."""
    return {
        "work_dir": str(service.project.work_dir),
        "channel": str(service.channel),
        "started": service.started,
        "in_flight": service.in_flight,
        "swapper": {
            "kind": service.swapper.kind,
            "engine": service.found.engine.kind if service.found.engine else None,
            "budget_gb": round(service.found.plan.budget / 1024**3, 2),
            "sets": service.found.plan.sets(),
            "prompt_cache": service.swapper.prompt_cache,
            **_llama_swap(service),
        },
        "backends": {
            str(kind): about
            for kind, backend in service.backends.items()
            if (about := backend.status()) is not None
        },
        "preload": service.preloaded,
        "tiers": [_tier_status(service, tier) for tier in service.config.tiers.values()],
        "recent": [msgspec.structs.asdict(record) for record in service.recent],
    }


def _llama_swap(service: Service) -> dict[str, Any]:
    if service.swapper.kind != "llama-swap":
        return {}
    daemon = running(service.project.pid_file("llama-swap"))
    return {"port": service.config.settings.swap_port, "pid": daemon.identity.pid if daemon else None}


def _tier_status(service: Service, tier: Tier) -> dict[str, Any]:
    about = {
        "name": tier.name,
        "role": tier.role,
        "backend": tier.backend,
        "model": tier.model.label,
        "channel": tier.channel,
        "ctx_size": tier.ctx_size,
    }
    need = service.found.tiers[tier.name].need
    known = {"need_bytes": need.total if need else None, "can_start": tier.name not in service.unavailable}
    return about | known | msgspec.structs.asdict(service.state(tier))


def _entry(name: str, created: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "llmstack"}
