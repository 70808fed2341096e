"""Write the files that are generated at each start and reload."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

from llmstack.config.model import BackendKind
from llmstack.errors import LlmstackError
from llmstack.files import remove, write_atomic
from llmstack.generators import litellm, llama_swap
from llmstack.process.identity import running_daemon
from llmstack.process.ports import find_free_ports, require_free_port
from llmstack.serving.litellm.program import master_key, model_name
from llmstack.serving.llama_swap.program import HOST, llama_swap_binary
from llmstack.serving.memory.survey import survey as survey_machine
from llmstack.trust.fingerprint import LITELLM_CONFIG

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import PrivateFiles, UserDirs
    from llmstack.serving.memory.survey import Survey


def render_litellm(trusted: TrustedProject, declared: StackConfig) -> dict[Path, str]:
    """Return the text of `litellm_config.yaml` that models.ini requires, by path; empty if it is up to date.

    Write it while holding the project's lock: no request may go to a model that models.ini does not name any
    more.

    Raises:
        LlmstackError: what the user has written into the file cannot be merged.
    """
    path = trusted.project.litellm_config
    before = trusted.files.contents.get(LITELLM_CONFIG)
    try:
        text_before = before.decode() if before is not None else None
    except UnicodeDecodeError as error:
        raise LlmstackError(f"cannot read {path}: {error}") from error
    text = litellm.render(declared, text_before)
    return {} if text is None or text == text_before else {path: text}


def find_llama_swap(config: StackConfig, user: UserDirs) -> Path | None:
    """Return the llama-swap to run, or None for the built-in pool.

    Raises:
        LlmstackError: models.ini requests llama-swap and it is not installed.
    """
    return llama_swap_binary(config.settings.swapper, user.bin)


def write_llama_swap(
    trusted: TrustedProject, config: StackConfig, survey: Survey, *, router_port: int
) -> None:
    """Write `llama-swap.yaml` with new secrets, for this configuration's channel.

    With the built-in pool nothing reads the file. It is written anyway, for running llama-swap by hand,
    unless llama-swap does not support what models.ini says.

    Raises:
        LlmstackError: llama-swap will run, and its port is taken or it does not support what models.ini says.
    """
    program = find_llama_swap(config, trusted.user)
    if program is not None:
        require_free_port(HOST, config.settings.swap_port, setting="swap_port", server="llama-swap")
    private = trusted.private
    private.create()
    try:
        text = _render_llama_swap(private, config, survey, router_port)
    except LlmstackError:
        remove(private.llama_swap_yaml)
        if program is not None:
            raise
    else:
        write_atomic(private.llama_swap_yaml, text, mode=0o600)


@contextlib.contextmanager
def replaced_llama_swap_yaml(
    trusted: TrustedProject, config: StackConfig, env: Mapping[str, str], *, router_port: int
) -> Iterator[None]:
    """Write a new `llama-swap.yaml` if llama-swap runs; restore the old one if the block fails."""
    path = trusted.private.llama_swap_yaml
    if running_daemon(trusted.project.pid_file("llama-swap")) is None or not path.is_file():
        yield
        return
    before = path.read_text(encoding="utf-8")
    text = _render_llama_swap(trusted.private, config, survey_machine(config, env), router_port)
    write_atomic(path, text, mode=0o600)
    try:
        yield
    except BaseException:
        write_atomic(path, before, mode=0o600)
        raise


def _litellm_peer(private: PrivateFiles, config: StackConfig, survey: Survey) -> llama_swap.Peer | None:
    """Return how llama-swap reaches LiteLLM, or None if no tier uses it."""
    tiers = [
        tier
        for tier in config.tiers.values()
        if tier.backend is BackendKind.LITELLM and tier.name not in survey.unavailable
    ]
    if not tiers:
        return None
    return llama_swap.Peer(
        url=f"http://{llama_swap.HOST}:{config.settings.litellm_port}",
        key=master_key(private.litellm_key),
        models=tuple(model_name(tier) for tier in tiers),
    )


def _render_llama_swap(private: PrivateFiles, config: StackConfig, survey: Survey, router_port: int) -> str:
    settings = config.settings
    reserved = {router_port, settings.router_port, settings.swap_port, settings.litellm_port}
    count = len(llama_swap.startable_tiers(config, survey))
    return llama_swap.render(
        config,
        survey,
        llama_swap.SwapSecrets(key=secrets.token_urlsafe(32), seed=secrets.token_urlsafe(32)),
        start_port=find_free_ports(llama_swap.HOST, settings.start_port, count, reserved),
        windows=os.name == "nt",
        litellm=_litellm_peer(private, config, survey),
    )
