"""Paths of a project's files in `.llmstack/`, and of the user's directories."""

from __future__ import annotations

import hashlib
import os
import sys
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
    """Directories of the user, shared by all projects; `XDG_*` variables override the defaults."""

    data: Path
    cache: Path
    config: Path
    state: Path
    bin: Path

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> UserDirs:
        """Return the platform's directories; `LLMSTACK_BIN_DIR` overrides the one for binaries.

        Only for entry points, since platformdirs reads `XDG_*` from the process's own environment.
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
        """Prompt caches of models, saved when the models are stopped."""
        return self.cache / "kv"

    @property
    def demo_models(self) -> Path:
        """The tiny models that `demo` builds."""
        return self.data / "demo-models"

    def private(self, project: Project) -> PrivateFiles:
        """Return where a project's secrets are, and the copies of its files that programs may run."""
        real = os.path.realpath(project.work_dir)
        digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:16]
        return PrivateFiles(self.state / "projects" / digest)


@dataclass(frozen=True, slots=True)
class PrivateFiles:
    """One project's files that nobody else may read or change: never in the project, which may be cloned.

    Attributes:
        directory: below the user's state directory; `create` makes it with mode 0700.
    """

    directory: Path

    @property
    def router_token(self) -> Path:
        """The running router's token, which its owner's commands prove themselves with."""
        return self.directory / "router.token"

    @property
    def litellm_key(self) -> Path:
        """The file with LiteLLM's master key."""
        return self.directory / "litellm.key"

    @property
    def litellm_dir(self) -> Path:
        """The verified copies of LiteLLM's configuration and of what it loads."""
        return self.directory / "litellm"

    @property
    def litellm_config(self) -> Path:
        """The verified copy of LiteLLM's configuration."""
        return self.litellm_dir / "litellm_config.yaml"

    @property
    def llama_swap_yaml(self) -> Path:
        """The configuration of llama-swap with its keys, written by each start."""
        return self.directory / "llama-swap.yaml"

    @property
    def shell_files(self) -> Path:
        """The startup files of the shell that `start` opens."""
        return self.directory / "shell"

    def create(self) -> None:
        """Create the directory.

        Raises:
            LlmstackError: it cannot be created, or it belongs to another user.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            if sys.platform != "win32":
                if self.directory.stat().st_uid != os.getuid():
                    raise LlmstackError(
                        f"{self.directory} belongs to another user",
                        hint="remove it, or set XDG_STATE_HOME to a directory of your own",
                    )
                self.directory.chmod(0o700)
        except OSError as error:
            raise LlmstackError(
                f"cannot create {self.directory}: {error.strerror or error}",
                hint="check the permissions, or set XDG_STATE_HOME to a directory of your own",
            ) from error


@dataclass(frozen=True, slots=True)
class Project:
    """One project: its work dir, and the files in `<work-dir>/.llmstack/`.

    Attributes:
        work_dir: absolute path.
        models_ini: `.llmstack/models.ini`, or the file that `LLMSTACK_MODELS_INI` names.
    """

    work_dir: Path
    models_ini: Path

    @classmethod
    def at(cls, work_dir: Path, env: Mapping[str, str]) -> Project:
        """Return the project with this work dir, whether it is installed or not."""
        work_dir = Path(work_dir).absolute()
        override = env.get("LLMSTACK_MODELS_INI")
        return cls(
            work_dir,
            Path(override).expanduser().absolute() if override else work_dir / STATE_DIR / "models.ini",
        )

    @property
    def name(self) -> str:
        """The name of the work dir, as the prompt shows it."""
        return self.work_dir.name or str(self.work_dir)

    @property
    def state(self) -> Path:
        """The directory `.llmstack/`."""
        return self.work_dir / STATE_DIR

    @property
    def gitignore(self) -> Path:
        """The file that keeps generated and private files out of commits."""
        return self.state / ".gitignore"

    @property
    def opencode_json(self) -> Path:
        """The generated configuration of opencode, to which `OPENCODE_CONFIG` points."""
        return self.state / "opencode.json"

    @property
    def agents_md(self) -> Path:
        """Instructions for agents, next to `opencode.json`."""
        return self.state / "AGENTS.md"

    @property
    def litellm_config(self) -> Path:
        """The configuration of LiteLLM; changes are merged into it."""
        return self.state / "litellm_config.yaml"

    @property
    def default_channel(self) -> Path:
        """Marker file of the pinned channel."""
        return self.state / "default-channel"

    @property
    def active_channel(self) -> Path:
        """Marker file of the channel that is running; missing if none is."""
        return self.state / "active-channel"

    @property
    def lock(self) -> Path:
        """Lock file that a command holds while it changes the project's state."""
        return self.state / "lock"

    @property
    def logs(self) -> Path:
        """The directory of the logs of daemons and downloads."""
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
    """Return the project that a command acts on, or None.

    That is the project of `LLMSTACK_WORK_DIR`, otherwise the nearest directory upwards from `cwd` that
    contains `.llmstack/`. If the shell hook exported `LLMSTACK_WORK_DIR`, the nearest project comes first,
    since the variable was set at the last prompt and is out of date in `cd elsewhere && llmstack …`.

    Raises:
        LlmstackError: `LLMSTACK_WORK_DIR` does not name a directory.
    """
    env_dir = env.get("LLMSTACK_WORK_DIR")
    if env_dir and env.get("LLMSTACK_ACTIVE") and env.get("LLMSTACK_HOOK"):
        nearest = _find_upwards(env, cwd)
        if nearest is not None:
            return nearest
    if env_dir:
        work_dir = Path(env_dir).expanduser()
        if not work_dir.is_dir():
            raise LlmstackError(
                f"LLMSTACK_WORK_DIR: expected a directory, got `{env_dir}`",
                hint="create it, or unset LLMSTACK_WORK_DIR to use the project you are in",
            )
        return Project.at(work_dir, env)
    return _find_upwards(env, cwd)


def _find_upwards(env: Mapping[str, str], cwd: Path) -> Project | None:
    for directory in (cwd, *cwd.parents):
        if (directory / STATE_DIR).is_dir():
            return Project.at(directory, env)
    return None
