"""The built-in swapper for llama.cpp: the pool, and how the servers of its tiers are made."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.serving.kv.files import GB, KvFiles, budget_bytes
from llmstack.serving.kv.identity import KvPlace, kv_identity
from llmstack.serving.pool.model_server import HOST, LlamaServer, Ports
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import pool_config_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.paths import Project
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.pool.pool_config import PoolConfig
    from llmstack.upstream.client import Upstream

ROOMY = 1.2  # a saved slot holds its tokens, too, beside what is counted


class PoolBackend(Pool):
    """Serves every gguf tier that can start, each by a llama.cpp server of its own.

    Args:
        project: for pid files and logs.
        config: tiers as the running channel has them.
        found: what this machine can serve.
        env: of the model servers, before it is scrubbed.
        kv_root: where prompt caches are saved, for all projects.
        upstream: the HTTP client.
    """

    def __init__(
        self,
        project: Project,
        config: StackConfig,
        found: Survey,
        env: Mapping[str, str],
        kv_root: Path,
        upstream: Upstream,
    ) -> None:
        settings = config.settings
        reserved = frozenset({settings.router_port, settings.swap_port, settings.litellm_port})
        self._project = project
        self._ports = Ports(settings.start_port, reserved)
        self._env = server_env(env, api_key=secrets.token_urlsafe(32))
        self._commands = _commands(config, found)
        self._kv = KvFiles(kv_root, budget_bytes(settings.kv_cache_gb, kv_root))
        super().__init__(self._terms_of(config, found), upstream, kv_files=self._kv)

    @property
    def prompt_cache(self) -> str:
        """What becomes of prompts when a model is stopped, in words."""
        if not self._kv.budget:
            return "not saved: kv_cache_gb = 0"
        return f"saved on swap, up to {self._kv.budget / GB:.3g} GB in {self._kv.root}"

    async def reload(self, config: StackConfig, found: Survey) -> list[str]:
        """Take up an edited configuration without dropping a request.

        Tiers whose command line is the same keep their process; the others finish what they are at, and the
        next request starts them anew.
        """
        commands = _commands(config, found)
        names = self._commands.keys() | commands.keys()  # one that comes back may still run as it was
        changed = {name for name in names if self._commands.get(name) != commands.get(name)}
        self._commands = commands
        self._kv.budget = budget_bytes(config.settings.kv_cache_gb, self._kv.root)
        self.replace(self._terms_of(config, found), changed=changed)
        return []

    def _terms_of(self, config: StackConfig, found: Survey) -> PoolConfig:
        """Return what this pool serves."""

        def server(name: str) -> LlamaServer:
            tier, weights, engine = config.tiers[name], found.tiers[name].weights, found.engine
            if weights is None or engine is None:
                why = found.unavailable.get(name, "its file is not on disk")
                raise LlmstackError(f"{name} cannot start: {why}")
            return LlamaServer(
                name,
                lambda port: server_flags(tier, weights, host=HOST, port=port),
                engine,
                env=self._env,
                ports=self._ports,
                pid_file=self._project.pid_file(f"model-{name}"),
                log=self._project.log(name),
                kv=lambda: self._place(tier, found, weights, engine),
            )

        return pool_config_for(server, config, found)

    def _place(self, tier: Tier, found: Survey, weights: Path, engine: EngineBinary) -> KvPlace | None:
        """Return where a tier's prompts are saved; models that answer no chat have none worth it."""
        need = found.tiers[tier.name].need
        if tier.serves != "chat" or not self._kv.budget or need is None:
            return None
        identity, slots = kv_identity(tier, weights, engine), tier.engine.parallel
        return KvPlace(
            identity,
            self._kv.prepare(identity),
            tier.model.label,
            most_bytes=round(ROOMY * (need.kv + need.checkpoints) / slots),
            token_bytes=need.kv // slots // tier.ctx_size,
        )


def _commands(config: StackConfig, found: Survey) -> dict[str, object]:
    """Return what decides whether the running server of each tier is still the right one.

    As it is now: by the next reload a file may have been exchanged, or be gone.
    """
    return {name: _command(config, found, name) for name in found.plan.needs}


def _command(config: StackConfig, found: Survey, name: str) -> object:
    """Return what decides whether a running server is still the right one."""
    weights = found.tiers[name].weights
    if weights is None or found.engine is None:
        return None
    written = weights.stat()
    flags = server_flags(config.tiers[name], weights, host=HOST, port=0)
    return found.engine.argv(flags), written.st_size, written.st_mtime_ns
