"""The first-time walkthrough, step by step; a step that finds its work done does nothing."""

from __future__ import annotations

import os
import platform
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import psutil

from llmstack.errors import LlmstackError
from llmstack.llama_cpp.binary import find_engine
from llmstack.serving.llama_swap.release import installed
from llmstack.shell.shells import SHELLS, shell_named
from llmstack.stack.download.download import fetch_here, start
from llmstack.stack.download.plan import declared, plan
from llmstack.stack.download.state import DownloadDir, read
from llmstack.stack.install.llama_swap import install

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.paths import Project, UserDirs
    from llmstack.stack.download.plan import Planned
    from llmstack.stack.download.state import Downloads

GB = 1024**3
SWAPPERS = (
    "llama-swap keeps its own port, web page and log; the built-in pool needs no program and drops no request"
    " at a reload. Either keeps models within the same memory."
)


@dataclass(frozen=True, slots=True)
class Step:
    """What a step found or did.

    Attributes:
        state: `ok` where nothing was to do, `done` where it was done now, `skipped`, `missing` where somebody
            else has to act, `failed`.
    """

    name: str
    state: Literal["ok", "done", "skipped", "missing", "failed"]
    detail: str
    hint: str = ""


def machine() -> Step:
    """Look at the hardware."""
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    memory = psutil.virtual_memory()
    detail = f"{platform.system()} {platform.machine()}, {cores} cores, {memory.total / GB:.1f} GB of memory"
    return Step("machine", "ok", f"{detail}, {memory.available / GB:.1f} GB free")


def engine(env: Mapping[str, str]) -> Step:
    """Look for llama.cpp."""
    try:
        found = find_engine(env)
    except LlmstackError as error:
        return Step("engine", "missing", error.message, error.hint or "")
    where = str(found.path) if found.kind == "native" else "bundled with the `engine` extra"
    return Step("engine", "ok", f"llama.cpp, {where}")


def opencode(env: Mapping[str, str]) -> Step:
    """Look for the coding agent."""
    found = shutil.which("opencode", path=env.get("PATH", ""))
    if found is None:
        return Step(
            "opencode", "missing", "not on PATH", "npm install -g opencode-ai; any OpenAI client will do"
        )
    return Step("opencode", "ok", found)


def hook(env: Mapping[str, str]) -> Step:
    """Look whether this terminal has the shell hook, and say which line gives it to every one."""
    if env.get("LLMSTACK_HOOK"):
        return Step("hook", "ok", "on in this terminal")
    try:
        shell = shell_named(env.get("SHELL") or ("powershell" if os.name == "nt" else ""))
    except LlmstackError:
        known = ", ".join(SHELLS)
        return Step("hook", "skipped", f"there is one for {known}", "llmstack activate SHELL")
    detail = f"wires a terminal up when it enters a project; end {shell.rc_file} with the line below"
    return Step("hook", "missing", detail, shell.line_for_rc)


def to_fetch(project: Project | None, user: UserDirs, env: Mapping[str, str]) -> Planned:
    """Return which GGUFs are here and which are not.

    Raises:
        LlmstackError: models.ini is wrong, or the project is a thin client.
    """
    return plan(declared(project, user), env)


def models(
    project: Project | None,
    user: UserDirs,
    env: Mapping[str, str],
    *,
    wait: bool,
    show: Callable[[Downloads], None],
    tell: Callable[[str], None],
) -> Step:
    """Fetch the GGUFs that are not here, in the background unless `wait`."""
    found, place = to_fetch(project, user, env), DownloadDir.of(project, user)
    if not found.items:
        return Step("models", "ok", f"{_files(len(found.present))} on disk, none missing")
    now = read(place)
    if not wait:
        if now is not None and now.running:
            return Step(
                "models", "ok", f"a download is under way (pid {now.identity.pid}): `llmstack status`"
            )
        started = start(found, place, env)
        detail = f"fetching {_files(len(found.items))} in the background (pid {started.identity.pid})"
        return Step("models", "done", detail, "see how far it is with `llmstack status`")
    done = fetch_here(lambda: to_fetch(project, user, env), place, env, show=show, tell=tell)
    failed = done.failed if done is not None else []
    if failed:
        first, rest = failed[0], len(failed) - 1
        why = f"{first.tier} ({first.label}): {first.error}" + (
            f"; {_files(rest)} more failed" if rest else ""
        )
        return Step("models", "failed", why, failed[0].hint)
    return Step("models", "done", f"{_files(len(found.items) + len(found.present))} on disk, none missing")


def llama_swap(
    project: Project | None, user: UserDirs, env: Mapping[str, str], *, tell: Callable[[str], None]
) -> Step:
    """Install llama-swap; where it cannot be had the built-in pool serves, so that is no failure."""
    there = installed(user.bin)
    if there is not None:
        return Step("llama-swap", "ok", f"{there.path}{f', v{there.version}' if there.version else ''}")
    if declared(project, user).settings.swapper == "builtin":
        return Step("llama-swap", "skipped", "models.ini says `swapper = builtin`")
    try:
        done = install(project, user, env, tell=tell)
    except LlmstackError as error:
        return Step(
            "llama-swap", "missing", error.message, error.hint or "the built-in pool serves without it"
        )
    return Step("llama-swap", "done", f"v{done.version} installed: {done.path}")


def _files(count: int) -> str:
    return f"{count} file{'s' if count != 1 else ''}"
