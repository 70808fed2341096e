"""The LiteLLM proxy as a program: where it is, which keys its providers want, how it is run."""

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
from llmstack.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from llmstack.config.model import Model, Tier

NAME = "litellm"
HOST = "127.0.0.1"
# Not an extra of ours: it pins older versions of libraries that we use (rich, huggingface-hub).
INSTALL = "install it with `pipx install 'litellm[proxy]'`, or set LITELLM_BIN"

# The variables that LiteLLM needs for a provider; one that is not here is tried.
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
# By itself it would fetch a price list, send figures home, and log what a provider said of a prompt.
_QUIET = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "LITELLM_LOG": "CRITICAL",
    "DO_NOT_TRACK": "1",
    "NO_DOCS": "True",
    "PYTHONUNBUFFERED": "1",
}
# Meant for other programs or for us; of these it would make a database, another key, or a debug log.
_KEPT_FROM_IT = frozenset(
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
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "0.0.0.0")  # noqa: S104 - not bound, looked for


def find_litellm(env: Mapping[str, str]) -> Path | None:
    """Return the program: `LITELLM_BIN`, beside our interpreter, PATH; None where there is none.

    Raises:
        LlmstackError: `LITELLM_BIN` names no program.
    """
    named = env.get("LITELLM_BIN")
    if named:
        found = shutil.which(Path(named).expanduser(), path=env.get("PATH", ""))
        if found is None:
            raise LlmstackError(
                f"LITELLM_BIN: expected a program that can be run, got `{named}`",
                hint="correct it, or unset it to search PATH",
            )
        return Path(found).absolute()
    for place in (str(Path(sys.executable).parent), env.get("PATH", "")):
        found = shutil.which(NAME, path=place) if place else None
        if found and Path(found).is_absolute():  # never what lies in the directory we are in
            return Path(found)
    return None


def key_variable(model: HostedModel) -> str | None:
    """Return the variable with the key of a model's provider; None where it is not known."""
    names = KEYS.get(model.provider)
    return names[0] if names else None


def missing_keys(model: HostedModel, env: Mapping[str, str]) -> list[str]:
    """Return the variables that a model's provider wants and that are not set."""
    return [name for name in KEYS.get(model.provider, ()) if not env.get(name, "").strip()]


def model_name(tier: Tier) -> str:
    """Return what LiteLLM calls what a tier serves on the channel that runs."""
    return f"{tier.name}_next" if tier.channel == "next" else tier.name


def argv(program: Path, config_file: Path, *, port: int) -> tuple[str, ...]:
    """Return the command line of a proxy that ends with us."""
    # -P: the project's directory, where this runs, is no place to import modules from.
    launcher = (sys.executable, "-P", "-m", "llmstack.llama_cpp.launcher")
    return (*launcher, str(program), "--config", str(config_file), "--host", HOST, "--port", str(port))


def environment(
    env: Mapping[str, str], *, master_key: str, own_ports: Collection[int], models: Iterable[Model] = ()
) -> dict[str, str]:
    """Return its environment: the providers' keys, its own key, and nothing that changes what it does.

    Args:
        env: ours.
        master_key: what it is to ask for.
        own_ports: of this stack. Users point their clients' `OPENAI_BASE_URL` at it, which LiteLLM reads too:
            it would call us, and we it.
        models: what it serves. One at an address of its own may want no key, but LiteLLM insists on one.
    """
    kept = {
        name: value
        for name, value in env.items()
        if name not in _KEPT_FROM_IT and not (_ADDRESS.fullmatch(name) and is_own(value, own_ports))
    }
    keyless = {
        name: "none"
        for model in models
        if isinstance(model, HostedModel) and model.base_url is not None
        for name in missing_keys(model, env)
    }
    return {**kept, **keyless, **_QUIET, "LITELLM_MASTER_KEY": master_key}


def is_own(url: str, own_ports: Collection[int]) -> bool:
    """Return whether an address is one of this stack's own."""
    try:
        parts, port = urlsplit(url), urlsplit(url).port
    except ValueError:
        return False
    return parts.hostname in _LOOPBACK and port in own_ports


def master_key(path: Path) -> str:
    """Return this project's master key, made where there is none yet; for the owner's eyes only.

    Raises:
        LlmstackError: the file cannot be read or written.
    """
    try:
        if path.is_file() and (key := path.read_text(encoding="ascii").strip()):
            path.chmod(0o600)
            return key
    except (OSError, UnicodeDecodeError) as error:
        raise LlmstackError(f"cannot read {path}: {error}", hint="remove it: a new one is made") from error
    key = f"sk-{secrets.token_urlsafe(32)}"  # its UI takes no other beginning
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    write_atomic(path, f"{key}\n", mode=0o600)
    return key
