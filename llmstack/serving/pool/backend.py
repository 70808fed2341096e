"""The pool as the backend of the gguf tiers: how their llama.cpp servers are created."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.serving.kv.files import PromptCacheFiles, budget_bytes
from llmstack.serving.kv.identity import KvDirectory, kv_identity
from llmstack.serving.pool.endpoint import Endpoints
from llmstack.serving.pool.model_server import LlamaServer
from llmstack.serving.pool.pool import Pool
from llmstack.serving.pool.pool_config import pool_config_for
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.paths import Project
    from llmstack.serving.memory.survey import Survey
    from llmstack.serving.pool.pool_config import PoolConfig
    from llmstack.upstream.client import Upstream

SAVED_SIZE_FACTOR = 1.2  # a saved slot also holds its tokens, which the footprint does not count


class PoolBackend(Pool):
    """Serves every gguf tier that can start, each by a llama.cpp server of its own.

    Args:
        project: for pid files and logs.
        config: tiers as the running channel has them.
        survey: what this machine can serve.
        env: environment of the model servers, before it is scrubbed.
        kv_root: where prompt caches are saved, for all projects.
        upstream: the HTTP client.
    """

    def __init__(
        self,
        project: Project,
        config: StackConfig,
        survey: Survey,
        env: Mapping[str, str],
        kv_root: Path,
        *,
        upstream: Upstream,
    ) -> None:
        settings = config.settings
        reserved = frozenset({settings.router_port, settings.swap_port, settings.litellm_port})
        self._project = project
        self._endpoints = Endpoints(settings.start_port, reserved)
        self._env = server_env(env)
        self._commands = _commands(config, survey)
        self._kv = PromptCacheFiles(kv_root, budget_bytes(settings.kv_cache_gb, kv_root))
        super().__init__(self._pool_config(config, survey), upstream, kv_files=self._kv)

    @property
    def prompt_cache(self) -> str:
        """What happens to prompt caches when a model is unloaded, in words."""
        if not self._kv.budget:
            return "not saved: kv_cache_gb = 0"
        return f"saved on swap, up to {self._kv.budget / GB:.3g} GB in {self._kv.root}"

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply an edited configuration without dropping a request.

        Tiers whose command line is the same keep their process; the others finish their requests, and are
        started again by the next one.
        """
        commands = _commands(config, survey)
        names = (
            self._commands.keys() | commands.keys()
        )  # a tier that is added again may still run with its old command line
        changed = {name for name in names if self._commands.get(name) != commands.get(name)}
        self._commands = commands
        self._kv.budget = budget_bytes(config.settings.kv_cache_gb, self._kv.root)
        self.replace(self._pool_config(config, survey), changed=changed)
        return []

    async def close(self) -> None:
        """Refuse the waiting requests, stop every model at once, and remove the sockets' directory."""
        await super().close()
        self._endpoints.close()

    def _pool_config(self, config: StackConfig, survey: Survey) -> PoolConfig:
        """Return what this pool serves."""

        def create_server(name: str) -> LlamaServer:
            tier, weights, engine = config.tiers[name], survey.tiers[name].weights, survey.engine
            if weights is None or engine is None:
                why = survey.unavailable.get(name, "its file is not on disk")
                raise LlmstackError(f"{name} cannot start: {why}")
            return LlamaServer(
                name,
                server_flags(tier, weights),
                engine,
                env=self._env,
                endpoints=self._endpoints,
                pid_file=self._project.pid_file(f"model-{name}"),
                log=self._project.log(name),
                find_kv_directory=lambda: self._kv_directory(tier, survey, weights, engine),
            )

        return pool_config_for(create_server, config, survey)

    def _kv_directory(
        self, tier: Tier, survey: Survey, weights: Path, engine: EngineBinary
    ) -> KvDirectory | None:
        """Return where a tier's prompt caches are saved; None if they are not worth it (no chat model)."""
        need = survey.tiers[tier.name].need
        if tier.serves != "chat" or not self._kv.budget or need is None:
            return None
        identity, slots = kv_identity(tier, weights, engine), tier.engine.parallel
        return KvDirectory(
            identity,
            self._kv.prepare_directory(identity),
            tier.model.label,
            max_bytes=round(SAVED_SIZE_FACTOR * (need.kv + need.checkpoints) / slots),
            token_bytes=need.kv // slots // tier.ctx_size,
        )


def _commands(config: StackConfig, survey: Survey) -> dict[str, object]:
    """Return for each tier what its running server must be compared with, as it is now.

    By the next reload a model file may have been replaced or deleted.
    """
    return {name: _command(config, survey, name) for name in survey.plan.needs}


def _command(config: StackConfig, survey: Survey, name: str) -> object:
    """Return the command line and the identity of the model file; a change means an outdated server."""
    weights = survey.tiers[name].weights
    if weights is None or survey.engine is None:
        return None
    file = weights.stat()
    flags = server_flags(config.tiers[name], weights)
    return survey.engine.argv(flags), file.st_size, file.st_mtime_ns
