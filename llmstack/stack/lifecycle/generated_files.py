"""The files that are written anew at each start."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.generators import litellm, llama_swap
from llmstack.paths import UserDirs
from llmstack.process.identity import running
from llmstack.process.ports import free_run
from llmstack.serving.litellm.program import master_key, model_name
from llmstack.serving.llama_swap.port import refuse_taken_port
from llmstack.serving.llama_swap.program import llama_swap_binary
from llmstack.serving.memory.survey import survey
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project
    from llmstack.serving.memory.survey import Survey


def write_litellm(project: Project, store: Path, declared: StackConfig) -> Path | None:
    """Bring `litellm_config.yaml` up to date with models.ini, and keep the project trusted if it was.

    The lock is held. A request must not go to the model that models.ini named before.

    Returns:
        The file, where it was written.

    Raises:
        LlmstackError: it cannot be merged, and stays as it is.
    """
    path = project.litellm_config
    try:
        before = path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise LlmstackError(f"cannot read {path}: {error}") from error
    text = litellm.render(declared, before)
    if text is None or text == before:
        return None
    trusted = trust_store.check(project, store).verdict is trust_store.Verdict.TRUSTED
    write_atomic(path, text)
    if trusted:
        trust_store.grant(project, store)
    return path


def chosen_llama_swap(config: StackConfig, env: Mapping[str, str]) -> Path | None:
    """Return the llama-swap that will be run, None for the built-in pool.

    Raises:
        LlmstackError: it is asked for and not installed.
    """
    return llama_swap_binary(config.settings.swapper, UserDirs.from_env(env).bin)


def write_llama_swap(
    project: Project, config: StackConfig, found: Survey, env: Mapping[str, str], *, router_port: int
) -> None:
    """Write `llama-swap.yaml` with new secrets, for the channel of this configuration.

    With the built-in pool nothing reads it; it is written all the same, for whoever wants to run llama-swap
    by hand, unless it cannot say what models.ini says.

    Raises:
        LlmstackError: llama-swap is to run, and its port is taken, or something cannot be said in its
            configuration.
    """
    chosen = chosen_llama_swap(config, env)
    if chosen is not None:
        refuse_taken_port(config.settings.swap_port)
    try:
        text = _rendered(project, config, found, router_port)
    except LlmstackError:
        project.llama_swap_yaml.unlink(missing_ok=True)
        if chosen is not None:
            raise
    else:
        write_atomic(project.llama_swap_yaml, text, mode=0o600)


@contextlib.contextmanager
def llama_swap_exchanged(
    project: Project, config: StackConfig, env: Mapping[str, str], *, router_port: int
) -> Iterator[None]:
    """Write `llama-swap.yaml` anew where llama-swap runs, and put the old one back if the block fails."""
    path = project.llama_swap_yaml
    if running(project.pid_file("llama-swap")) is None or not path.is_file():
        yield
        return
    before = path.read_text(encoding="utf-8")
    write_atomic(path, _rendered(project, config, survey(config, env), router_port), mode=0o600)
    try:
        yield
    except BaseException:
        write_atomic(path, before, mode=0o600)
        raise


def _peer(project: Project, config: StackConfig, found: Survey) -> llama_swap.Peer | None:
    """Return LiteLLM as llama-swap reaches it; None where nothing is served by it."""
    tiers = [
        tier
        for tier in config.tiers.values()
        if tier.backend is BackendKind.LITELLM and tier.name not in found.unavailable
    ]
    if not tiers:
        return None
    return llama_swap.Peer(
        url=f"http://{llama_swap.HOST}:{config.settings.litellm_port}",
        key=master_key(project.litellm_key),
        models=tuple(model_name(tier) for tier in tiers),
    )


def _rendered(project: Project, config: StackConfig, found: Survey, router_port: int) -> str:
    settings = config.settings
    reserved = {router_port, settings.router_port, settings.swap_port, settings.litellm_port}
    count = len(llama_swap.servable(config, found))
    return llama_swap.render(
        config,
        found,
        llama_swap.SwapSecrets(key=secrets.token_urlsafe(32), path=secrets.token_urlsafe(32)),
        start_port=free_run(llama_swap.HOST, settings.start_port, count, reserved),
        windows=os.name == "nt",
        litellm=_peer(project, config, found),
    )
