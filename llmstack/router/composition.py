"""Putting the router's state together: which backend serves each kind of tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind
from llmstack.llama_cpp.command import server_env
from llmstack.process.leftovers import instance_id
from llmstack.providers.model_aliases import load_aliases
from llmstack.router.service import Service
from llmstack.serving.litellm.backend import LitellmBackend
from llmstack.serving.llama_swap.backend import LlamaSwapBackend
from llmstack.serving.llama_swap.process import LlamaSwapProcess
from llmstack.serving.llama_swap.program import llama_swap_binary
from llmstack.serving.memory.survey import survey_in_thread
from llmstack.serving.pool.backend import PoolBackend
from llmstack.serving.remote.mcp import McpBackend
from llmstack.serving.remote.server import ServerBackend

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.channel import Channel
    from llmstack.config.model import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.router.auth import RequestAuth
    from llmstack.router_proof import RouterIdentity
    from llmstack.serving.base import Swapper
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Upstream


def build_swapper(
    config: StackConfig,
    survey: Survey,
    project: Project,
    env: Mapping[str, str],
    dirs: UserDirs,
    *,
    upstream: Upstream,
) -> Swapper:
    """Return llama-swap if its binary is installed or requested, else the built-in pool.

    Raises:
        LlmstackError: it is requested and not installed.
    """
    binary = llama_swap_binary(config.settings.swapper, dirs.bin)
    if binary is None:
        return PoolBackend(project, config, survey, env, dirs.prompt_caches, upstream=upstream)
    process = LlamaSwapProcess(
        binary,
        dirs.private(project).llama_swap_yaml,
        port=config.settings.swap_port,
        env=server_env(env),
        instance=instance_id(project.state),
        pid_file=project.pid_file("llama-swap"),
        log=project.log("llama-swap"),
    )
    return LlamaSwapBackend(process, config, survey, upstream)


async def build_service(
    *,
    project: Project,
    channel: Channel,
    config: StackConfig,
    auth: RequestAuth,
    identity: RouterIdentity,
    upstream: Upstream,
    env: Mapping[str, str],
    dirs: UserDirs,
) -> Service:
    """Survey the machine and put the router's state together."""
    survey = await survey_in_thread(config, env)
    unavailable = survey.unavailable
    aliases = load_aliases(dirs.config)
    port = identity.port
    bind = f"[{auth.bind}]" if ":" in auth.bind else auth.bind
    own_addresses = (f"http://127.0.0.1:{port}", f"http://{bind}:{port}")  # the router must not call itself
    swapper = build_swapper(config, survey, project, env, dirs, upstream=upstream)
    return Service(
        project=project,
        user=dirs,
        identity=identity,
        channel=channel,
        config=config,
        auth=auth,
        survey=survey,
        swapper=swapper,
        backends={
            BackendKind.GGUF: swapper,
            BackendKind.LITELLM: LitellmBackend(
                project,
                config,
                unavailable,
                env,
                aliases,
                private=dirs.private(project),
                router_port=port,
                upstream=upstream,
            ),
            BackendKind.SERVER: ServerBackend(
                config, unavailable, env, aliases, own_addresses, upstream=upstream
            ),
            BackendKind.MCP: McpBackend(project, config, unavailable, env),
        },
        env=env,
        upstream=upstream,
    )
