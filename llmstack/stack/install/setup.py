"""The steps of `llmstack setup`; a step whose work is already done changes nothing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import find_engine
from llmstack.serving.llama_swap.release import find_installed
from llmstack.shell.shells import SHELLS, find_shell
from llmstack.stack.download.download import download_and_wait, start_in_background
from llmstack.stack.download.plan import plan_downloads
from llmstack.stack.download.state import DownloadDir, read_last_run
from llmstack.stack.install.llama_swap import install_llama_swap
from llmstack.units import GB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs
    from llmstack.stack.download.state import DownloadRun

SWAPPER_NOTE = (
    "llama-swap has its own port, web page and log; the built-in pool needs no program and drops no request"
    " at a reload. Either keeps models within the same memory."
)


@dataclass(frozen=True, slots=True)
class Step:
    """The result of one step.

    Attributes:
        state: `ok` if there was nothing to do, `done` if it was done now, `missing` if the user has to act,
            `skipped`, or `failed`.
    """

    name: str
    state: Literal["ok", "done", "skipped", "missing", "failed"]
    detail: str
    hint: str = ""


def check_machine() -> Step:
    """Report the hardware."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    memory = psutil.virtual_memory()
    detail = f"{platform.system()} {platform.machine()}, {cores} cores, {memory.total / GB:.1f} GB of memory"
    return Step("machine", "ok", f"{detail}, {memory.available / GB:.1f} GB free")


def check_engine(env: Mapping[str, str]) -> Step:
    """Look for llama.cpp."""
    try:
        engine = find_engine(env)
    except LlmstackError as error:
        return Step("engine", "missing", error.message, error.hint or "")
    source = str(engine.path) if engine.kind == "native" else "bundled with the `engine` extra"
    return Step("engine", "ok", f"llama.cpp, {source}")


def check_opencode(env: Mapping[str, str]) -> Step:
    """Look for the coding agent."""
    path = shutil.which("opencode", path=env.get("PATH", ""))
    if path is None:
        hint = "npm install -g opencode-ai; any OpenAI client will do"
        return Step("opencode", "missing", "not on PATH", hint)
    return Step("opencode", "ok", path)


def check_hook(env: Mapping[str, str]) -> Step:
    """Report whether this terminal has the shell hook; if not, the hint is the line that installs it."""
    if env.get("LLMSTACK_HOOK"):
        return Step("hook", "ok", "on in this terminal")
    try:
        shell = find_shell(env.get("SHELL") or ("powershell" if os.name == "nt" else ""))
    except LlmstackError:
        return Step("hook", "skipped", f"there is one for {', '.join(SHELLS)}", "llmstack activate SHELL")
    detail = (
        f"connects a terminal when it enters a project; add the line below to {shell.rc_file}, at the end"
    )
    return Step("hook", "missing", detail, shell.rc_line)


def fetch_models(
    config: StackConfig,
    trusted: TrustedProject | None,
    user: UserDirs,
    env: Mapping[str, str],
    *,
    wait: bool,
    show: Callable[[DownloadRun], None],
    notify: Callable[[str], None],
) -> Step:
    """Download the GGUF files that are not on disk.

    Args:
        config: models.ini.
        trusted: for the state of the download; None for the user's own.
        user: as above.
        env: for the hub and its cache.
        wait: download in this process instead of in the background.
        show: called with the progress if `wait`.
        notify: called with a message if another download is waited for.
    """
    project = trusted.project if trusted is not None else None
    plan, download_dir = plan_downloads(config, env), DownloadDir.for_project(project, user)
    if not plan.items:
        return Step("models", "ok", f"{_file_count(len(plan.present))} on disk, none missing")
    if not wait:
        last_run = read_last_run(download_dir)
        if last_run is not None and last_run.is_running:
            detail = f"a download is running (pid {last_run.identity.pid}): `llmstack status`"
            return Step("models", "ok", detail)
        started = start_in_background(plan, download_dir, env)
        detail = f"fetching {_file_count(len(plan.items))} in the background (pid {started.identity.pid})"
        return Step("models", "done", detail, "see the progress with `llmstack status`")
    run = download_and_wait(lambda: plan_downloads(config, env), download_dir, env, show=show, notify=notify)
    if run is not None and run.failed_items:
        first, *others = run.failed_items
        detail = f"{first.tier} ({first.label}): {first.error}"
        if others:
            detail += f"; {_file_count(len(others))} more failed"
        return Step("models", "failed", detail, first.hint)
    count = len(plan.items) + len(plan.present)
    return Step("models", "done", f"{_file_count(count)} on disk, none missing")


def ensure_llama_swap(
    config: StackConfig,
    trusted: TrustedProject | None,
    user: UserDirs,
    env: Mapping[str, str],
    *,
    notify: Callable[[str], None],
) -> Step:
    """Install llama-swap unless it is installed or not needed.

    A failure is `missing`, not `failed`, because the built-in pool serves without llama-swap.
    """
    release = find_installed(user.bin)
    if release is not None:
        version = f", v{release.version}" if release.version else ""
        return Step("llama-swap", "ok", f"{release.path}{version}")
    if config.settings.swapper == "builtin":
        return Step("llama-swap", "skipped", "models.ini says `swapper = builtin`")
    try:
        release = install_llama_swap(trusted, user, env, notify=notify)
    except LlmstackError as error:
        hint = error.hint or "the built-in pool serves without it"
        return Step("llama-swap", "missing", error.message, hint)
    return Step("llama-swap", "done", f"v{release.version} installed: {release.path}")


def _file_count(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
