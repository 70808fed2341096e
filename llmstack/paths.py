"""Where things live: one project's `.llmstack/` and the user's own directories."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_DIR = ".llmstack"


@dataclass(frozen=True, slots=True)
class UserDirs:
    """Directories of the user, shared by all projects (`XDG_*` where set)."""

    data: Path
    cache: Path
    config: Path
    state: Path
    bin: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> UserDirs:
        """Return the platform's directories; `LLMSTACK_BIN_DIR` overrides where binaries go.

        platformdirs reads `XDG_*` from the process's own environment, so this is for entry points only.
        """
        dirs = platformdirs.PlatformDirs("llmstack", appauthor=False)
        data = dirs.user_data_path
        return cls(
            data=data,
            cache=dirs.user_cache_path,
            config=dirs.user_config_path,
            state=dirs.user_state_path,
            bin=Path(env["LLMSTACK_BIN_DIR"]).expanduser() if env.get("LLMSTACK_BIN_DIR") else data / "bin",
        )

    @property
    def trusted_projects(self) -> Path:
        """The list of trusted projects (TOML)."""
        return self.data / "trusted.toml"

    @property
    def prompt_caches(self) -> Path:
        """What models have read of conversations, saved when they are stopped."""
        return self.cache / "kv"

    @property
    def demo_models(self) -> Path:
        """The tiny models that `demo` builds."""
        return self.data / "demo-models"


@dataclass(frozen=True, slots=True)
class Project:
    """One project: its work dir, and the files in `<work-dir>/.llmstack/`.

    Attributes:
        work_dir: absolute.
        models_ini: `.llmstack/models.ini`, or what `LLMSTACK_MODELS_INI` names.
    """

    work_dir: Path
    models_ini: Path

    @classmethod
    def at(cls, work_dir: Path, env: Mapping[str, str]) -> Project:
        """Return the project of this directory, whether or not it is installed."""
        work_dir = Path(work_dir).absolute()
        override = env.get("LLMSTACK_MODELS_INI")
        return cls(
            work_dir,
            Path(override).expanduser().absolute() if override else work_dir / STATE_DIR / "models.ini",
        )

    @property
    def name(self) -> str:
        """The directory's name, as the prompt shows it."""
        return self.work_dir.name or str(self.work_dir)

    @property
    def state(self) -> Path:
        """`.llmstack/`."""
        return self.work_dir / STATE_DIR

    @property
    def gitignore(self) -> Path:
        """Ignores what is not meant to be committed."""
        return self.state / ".gitignore"

    @property
    def opencode_json(self) -> Path:
        """What `OPENCODE_CONFIG` points at."""
        return self.state / "opencode.json"

    @property
    def agents_md(self) -> Path:
        """Instructions for the agent, next to `opencode.json`."""
        return self.state / "AGENTS.md"

    @property
    def litellm_config(self) -> Path:
        """LiteLLM's configuration, merged and never overwritten."""
        return self.state / "litellm_config.yaml"

    @property
    def llama_swap_yaml(self) -> Path:
        """llama-swap's configuration, written at each start."""
        return self.state / "llama-swap.yaml"

    @property
    def default_channel(self) -> Path:
        """The pinned channel."""
        return self.state / "default-channel"

    @property
    def active_channel(self) -> Path:
        """The channel that runs now; absent while nothing does."""
        return self.state / "active-channel"

    @property
    def lock(self) -> Path:
        """Held by a command while it changes this project's state."""
        return self.state / "lock"

    @property
    def logs(self) -> Path:
        """Logs of daemons and downloads."""
        return self.state / "logs"

    def log(self, name: str) -> Path:
        """Return the log file of a daemon or tier."""
        return self.logs / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        """Return the pid file of a daemon or tier."""
        return self.state / f"{name}.pid"

    @property
    def router_pid(self) -> Path:
        """The router's pid file."""
        return self.pid_file("router")


def find_project(env: Mapping[str, str], cwd: Path) -> Project | None:
    """Return the project that commands act on here, or None.

    `LLMSTACK_WORK_DIR`, else the nearest directory upwards from `cwd` that has `.llmstack/`. What the shell
    hook exported is where the last prompt was: after `cd elsewhere && llmstack …` the nearest project counts.

    Raises:
        LlmstackError: `LLMSTACK_WORK_DIR` names something that is no directory.
    """
    named = env.get("LLMSTACK_WORK_DIR")
    if named and env.get("LLMSTACK_ACTIVE") and env.get("LLMSTACK_HOOK"):
        nearest = _nearest(env, cwd)
        if nearest is not None:
            return nearest
    if named:
        work_dir = Path(named).expanduser()
        if not work_dir.is_dir():
            raise LlmstackError(
                f"LLMSTACK_WORK_DIR: expected a directory, got `{named}`",
                hint="create it, or unset LLMSTACK_WORK_DIR to use the project you are in",
            )
        return Project.at(work_dir, env)
    return _nearest(env, cwd)


def _nearest(env: Mapping[str, str], cwd: Path) -> Project | None:
    for directory in (cwd, *cwd.parents):
        if (directory / STATE_DIR).is_dir():
            return Project.at(directory, env)
    return None
