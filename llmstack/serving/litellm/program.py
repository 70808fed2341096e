"""The LiteLLM proxy as a program: its path, the keys that its providers require, its command line."""

from __future__ import annotations

import contextlib
import re
import secrets
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmstack.config.model import HostedModel
from llmstack.errors import LlmstackError
from llmstack.files import remove, write_atomic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from llmstack.config.model import Model, Tier
    from llmstack.config.trusted import TrustedProject

NAME = "litellm"
HOST = "127.0.0.1"
# Not an extra of this package: it pins older versions of its dependencies (rich, huggingface-hub).
INSTALL = "install it with `pipx install 'litellm[proxy]'`, or set LITELLM_BIN"

# The variables that LiteLLM requires for a provider; any other provider is tried without a check.
KEYS: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_API_KEY",),
    "azure": ("AZURE_API_KEY", "AZURE_API_BASE"),
    "cerebras": ("CEREBRAS_API_KEY",),
    "cohere": ("COHERE_API_KEY",),
    "deepseek": ("DEEPSEEK_API_KEY",),
    "fireworks_ai": ("FIREWORKS_API_KEY",),
    "gemini": ("GEMINI_API_KEY",),
    "groq": ("GROQ_API_KEY",),
    "mistral": ("MISTRAL_API_KEY",),
    "moonshot": ("MOONSHOT_API_KEY",),
    "openai": ("OPENAI_API_KEY",),
    "openrouter": ("OPENROUTER_API_KEY",),
    "perplexity": ("PERPLEXITYAI_API_KEY",),
    "together_ai": ("TOGETHERAI_API_KEY",),
    "xai": ("XAI_API_KEY",),
}
# By default it fetches a price list, sends telemetry, and logs what a provider said about a prompt.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "CRITICAL",
    "DO_NOT_TRACK": "1",
    "NO_DOCS": "True",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}
# Meant for other programs or for this one; LiteLLM would set up a database, another key or a debug log.
_ENV_DENYLIST = frozenset(
    (
        *("DATABASE_URL", "DIRECT_URL", "CONFIG_FILE_PATH", "DETAILED_DEBUG", "DEBUG", "HOST", "PORT"),
        *(
            "LITELLM_SALT_KEY",
            "LITELLM_MODE",
            "LLMSTACK_API_KEY",
            "HF_TOKEN",
            "NUM_WORKERS",
            "STORE_MODEL_IN_DB",
        ),
    )
)
_ADDRESS = re.compile(r"[A-Z_]+_(BASE_URL|API_BASE|BASE)")
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - compared, not bound


def find_litellm(env: Mapping[str, str]) -> Path | None:
    """Return the program: `LITELLM_BIN`, next to this interpreter, or on PATH; None if there is none.

    Raises:
        LlmstackError: `LITELLM_BIN` names no program.
    """
    setting = env.get("LITELLM_BIN")
    if setting:
        program = shutil.which(Path(setting).expanduser(), path=env.get("PATH", ""))
        if program is None:
            raise LlmstackError(
                f"LITELLM_BIN: expected a program that can be run, got `{setting}`",
                hint="correct it, or unset it to search PATH",
            )
        return Path(program).absolute()
    for directories in (str(Path(sys.executable).parent), env.get("PATH", "")):
        program = shutil.which(NAME, path=directories) if directories else None
        if program and Path(program).is_absolute():  # never one in the working directory
            return Path(program)
    return None


def key_variable(model: HostedModel) -> str | None:
    """Return the variable with the key of a model's provider; None if it is not known."""
    names = KEYS.get(model.provider)
    return names[0] if names else None


def missing_keys(model: HostedModel, env: Mapping[str, str]) -> list[str]:
    """Return the variables that a model's provider requires and that are not set."""
    return [name for name in KEYS.get(model.provider, ()) if not env.get(name, "").strip()]


def model_name(tier: Tier) -> str:
    """Return LiteLLM's name for the model that a tier serves on the running channel."""
    return f"{tier.name}_next" if tier.channel == "next" else tier.name


def argv(program: Path, config_file: Path, *, port: int) -> tuple[str, ...]:
    """Return the command line of a proxy that ends with this process."""
    # -P: modules must not be imported from the working directory, which is the project.
    launcher = (sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher")
    return (*launcher, str(program), "--config", str(config_file), "--host", HOST, "--port", str(port))


def environment(
    env: Mapping[str, str], *, master_key: str, own_ports: Collection[int], models: Iterable[Model] = ()
) -> dict[str, str]:
    """Return its environment: the providers' keys, its own key, and nothing that changes what it does.

    Args:
        env: of this process.
        master_key: the key that it requires from its clients.
        own_ports: ports of this stack. Users point their `OPENAI_BASE_URL` at them, which LiteLLM
            reads, too: it and this router would call each other.
        models: what it serves. A server of the user's own may need no key, but LiteLLM requires one.
    """
    passed = {
        name: value
        for name, value in env.items()
        if name not in _ENV_DENYLIST and not (_ADDRESS.fullmatch(name) and is_own(value, own_ports))
    }
    keyless = {
        name: "none"
        for model in models
        if isinstance(model, HostedModel) and model.base_url is not None
        for name in missing_keys(model, env)
    }
    return {**passed, **keyless, **_QUIET, "LITELLM_MASTER_KEY": master_key}


def is_own(url: str, own_ports: Collection[int]) -> bool:
    """Return whether an address is one of this stack's own."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        return False
    return parts.hostname in _LOOPBACK and port in own_ports


def copy_litellm_files(trusted: TrustedProject) -> None:
    """Copy LiteLLM's verified configuration, and what it can load, to where only the user can change it.

    LiteLLM reads them later, and more than once; in the project they could be exchanged in the meantime.

    Raises:
        LlmstackError: a file cannot be written.
    """
    directory = trusted.private.litellm_dir
    files = trusted.files.loadable()
    trusted.private.create()
    if directory.is_dir():
        for path in [*directory.rglob("*")]:
            if path.is_file() and path.relative_to(directory).as_posix() not in files:
                remove(path)
    for name, data in files.items():
        write_atomic(directory / name, data, mode=0o600)


def master_key(path: Path) -> str:
    """Return this project's master key, created if there is none yet; only the owner can read its file.

    Raises:
        LlmstackError: the file cannot be read or written.
    """
    try:
        if path.is_file() and (key := path.read_text(encoding="ascii").strip()):
            path.chmod(0o600)
            return key
    except (OSError, UnicodeDecodeError) as error:
        raise LlmstackError(f"cannot read {path}: {error}", hint="remove it: a new one is made") from error
    key = f"sk-{secrets.token_urlsafe(32)}"  # its web page requires this prefix
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    write_atomic(path, f"{key}\n", mode=0o600)
    return key
