"""The router's own JSON documents: its models, and its status."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from llmstack.policy.decision import AUTO
from llmstack.policy.ladder import auto_context
from llmstack.process.identity import running_daemon
from llmstack.units import GB

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
        fields = {
            "description": tier.description,
            "context_window": tier.ctx_size,
            "backend": tier.backend,
            "role": tier.role,
            "channel": tier.channel,
            "model": tier.model.label,
        }
        if service.backends[tier.backend].loads_models:
            fields["state"] = service.state(tier).state
        entries.append({**_entry(tier.name, service.started), **fields, "aliases": tier.aliases})
        entries += [
            {**_entry(alias, service.started), **fields, "alias_of": tier.name} for alias in tier.aliases
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
            "engine": service.survey.engine.kind if service.survey.engine else None,
            "budget_gb": round(service.survey.plan.budget / GB, 2),
            "sets": service.survey.plan.sets(),
            "prompt_cache": service.swapper.prompt_cache,
            **_llama_swap(service),
        },
        "backends": {
            str(kind): backend_status
            for kind, backend in service.backends.items()
            if (backend_status := backend.status()) is not None
        },
        "preload": service.preloaded,
        "tiers": [_tier_fields(service, tier) for tier in service.config.tiers.values()],
        "recent": [msgspec.structs.asdict(record) for record in service.recent],
    }


def _llama_swap(service: Service) -> dict[str, Any]:
    if service.swapper.kind != "llama-swap":
        return {}
    daemon = running_daemon(service.project.pid_file("llama-swap"))
    return {"port": service.config.settings.swap_port, "pid": daemon.identity.pid if daemon else None}


def _tier_fields(service: Service, tier: Tier) -> dict[str, Any]:
    fields = {
        "name": tier.name,
        "role": tier.role,
        "backend": tier.backend,
        "model": tier.model.label,
        "channel": tier.channel,
        "ctx_size": tier.ctx_size,
    }
    need = service.survey.tiers[tier.name].need
    capacity = {"need_bytes": need.total if need else None, "can_start": tier.name not in service.unavailable}
    return fields | capacity | msgspec.structs.asdict(service.state(tier))


def _entry(name: str, created: float) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": int(created), "owned_by": "llmstack"}
