"""Putting the router's state together: which swapper, which backends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind
from llmstack.llama_cpp.command import server_env
from llmstack.process.leftovers import instance_of
from llmstack.providers.model_aliases import load as load_known
from llmstack.router.service import Service
from llmstack.serving.litellm.backend import LitellmBackend
from llmstack.serving.llama_swap.backend import LlamaSwapBackend
from llmstack.serving.llama_swap.process import LlamaSwapProcess
from llmstack.serving.llama_swap.program import llama_swap_binary
from llmstack.serving.memory.survey import survey
from llmstack.serving.pool.backend import PoolBackend
from llmstack.serving.remote.mcp import McpBackend
from llmstack.serving.remote.server import ServerBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.router.auth import RequestGuard
    from llmstack.serving.base import Swapper
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Upstream


def build_swapper(
    config: StackConfig, found: Survey, project: Project, env: Mapping[str, str], dirs: UserDirs
) -> Swapper:
    """Return llama-swap where its binary is installed or asked for, else the built-in pool.

    Raises:
        LlmstackError: it is asked for and not installed.
    """
    binary = llama_swap_binary(config.settings.swapper, dirs.bin)
    if binary is None:
        return PoolBackend(project, config, found, env, dirs.prompt_caches)
    swap = LlamaSwapProcess(
        binary,
        project.llama_swap_yaml,
        port=config.settings.swap_port,
        env=server_env(env, api_key=None),
        instance=instance_of(project.state),
        pid_file=project.pid_file("llama-swap"),
        log=project.log("llama-swap"),
    )
    return LlamaSwapBackend(swap, config, found)


def build_service(
    *,
    project: Project,
    channel: Channel,
    config: StackConfig,
    guard: RequestGuard,
    upstream: Upstream,
    env: Mapping[str, str],
    dirs: UserDirs,
    port: int,
) -> Service:
    """Look at the machine and put the router's state together. Inside the event loop."""
    found = survey(config, env)
    known = load_known(dirs.config)
    bind = f"[{guard.bind}]" if ":" in guard.bind else guard.bind
    own = (f"http://127.0.0.1:{port}", f"http://{bind}:{port}")  # a tier must not be served by us again
    return Service(
        project=project,
        channel=channel,
        config=config,
        guard=guard,
        found=found,
        swapper=build_swapper(config, found, project, env, dirs),
        backends={
            BackendKind.LITELLM: LitellmBackend(
                project, config, found.unavailable, env, known, router_port=port
            ),
            BackendKind.SERVER: ServerBackend(config, found.unavailable, env, known, own),
            BackendKind.MCP: McpBackend(project, config, found.unavailable, env),
        },
        env=env,
        upstream=upstream,
    )
