"""What in a project's files can run a program or redirect traffic, as one digest for each file.

The shell hook needs this at a prompt, so it imports the standard library alone and reads models.ini as
text, without config/.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from pathlib import Path

STATE_DIR = ".llmstack"  # as in paths.py, which imports more than a prompt can wait for
MAX_BYTES = 4 * 1024 * 1024  # of one file; a prompt must not hang on a huge one

# What may be edited in models.ini without asking again: figures, names and data. Every other key, known or
# not, counts, so a key that is added later asks until it is listed here.
FREE_KEYS = frozenset(
    {
        "aliases",
        "cache_ram_gb",
        "cache_type_k",
        "cache_type_v",
        "ctx_size",
        "description",
        "fallback",
        "flash_attn",
        "hf_file",
        "hf_file_next",
        "hf_repo",
        "hf_repo_next",
        "high_fidelity_ceiling",
        "jinja",
        "kv_cache_gb",
        "litellm_port",
        "max_output_tokens",
        "memory_gb",
        "mid_fidelity_ceiling",
        "multi_turn",
        "n_gpu_layers",
        "parallel",
        "router_port",
        "start_port",
        "swap_port",
        "path",
        "quant",
        "quant_next",
        "role",
        "rope_scaling",
        "sampler",
        "size_gb",
        "size_gb_next",
        "sticky",
        "swapper",
        "threads",
        "tier",
        "ttl",
        "ultra_triggers",
        "while_loading",
    }
)
# Of these the provider counts (it decides who reads the prompts), the name behind it does not.
_MODEL_KEYS = frozenset({"model", "model_next"})
# A model or a file that is named by an address (`//host`, `\\host`) leads somewhere else, so it counts whole.
_LOCATORS = frozenset({"hf_file", "hf_file_next", "hf_repo", "hf_repo_next", "path"}) | _MODEL_KEYS
_ADDRESS = re.compile(r"//|\\\\|\\/|/\\")

WHOLE_FILES = ("default-channel", "opencode.json", "litellm_config.yaml")
_NOT_LOADED = frozenset({"litellm_config.yaml", "llama-swap.yaml"})  # counted already; written by each start
_HEADER = re.compile(r"[ \t]*\[([^\[\]]+)\][ \t]*(?:[ \t];.*)?")
_SETTING = re.compile(r"[ \t]*([A-Za-z0-9_.-]+)[ \t]*=(.*)")
# A comment under any reading of the format; one that is less plain stays part of the value.
_TRAILING_COMMENT = re.compile(r"[ \t];(?:[ \t]|$)")
_QUOTES = re.compile(r"""["'\\]""")

# Controls, and everything but a newline that somebody might take for the end of a line.
_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")


class Place(Protocol):
    """What is asked about a project; `paths.Project` is one, and so is whatever the shell hook builds."""

    @property
    def work_dir(self) -> Path:
        """The directory that holds `.llmstack/`."""

    @property
    def models_ini(self) -> Path:
        """`.llmstack/models.ini`, or what `LLMSTACK_MODELS_INI` names."""


class Setting(NamedTuple):
    """One line of models.ini that counts."""

    section: str
    key: str
    value: str


def fingerprint(project: Place) -> dict[str, str]:
    """Return the digests, by name, of what can run a program or redirect traffic, for files that exist.

    models.ini counts by its settings that do either, everything else whole. Python and YAML files count
    because LiteLLM imports callbacks and includes configuration from beside its own. `active-channel`
    counts only where it says more than a start writes. AGENTS.md does not count: it runs nothing by
    itself, its reader takes in the repository's own AGENTS.md as well, and people edit it all the time.

    Raises:
        LlmstackError: a file cannot be read or is not a plain file.
    """
    state = project.work_dir / STATE_DIR
    own = state / "models.ini"
    contents = {"models.ini": _condense(read_plain(own))}
    if project.models_ini != own:
        contents[resolved(project.models_ini)] = _condense(read_plain(project.models_ini))
    contents |= {name: read_plain(state / name) for name in WHOLE_FILES}
    active = read_plain(state / "active-channel")
    if active is not None and active.split() not in ([b"current"], [b"next"]):
        pinned = contents["default-channel"] or b""
        contents["active-channel"] = None if active.split() == pinned.split() else active
    contents |= {path.relative_to(state).as_posix(): read_plain(path) for path in beside(state)}
    return {name: hashlib.sha256(data).hexdigest() for name, data in contents.items() if data is not None}


def beside(state: Path) -> list[Path]:
    """Return the files that LiteLLM's configuration can load by name; our own generated one is not."""
    found = (path for path in state.rglob("*") if path.suffix in {".py", ".yaml", ".yml"})
    return sorted(path for path in found if path.name not in _NOT_LOADED and not path.is_dir())


def settings_that_count(data: bytes) -> list[Setting] | None:
    r"""Return what counts in the text of a models.ini; None where all of it does.

    Nothing is skipped that config/ini.py could read as another setting. Only a plain line (blank, comment,
    `[section]`, `ascii_key = value`) is taken for what it looks like, and one line of any other kind, or a
    character that somebody might read as the end of a line, makes the whole text count.
    """
    try:
        text = data.decode("utf-8").removeprefix("\ufeff").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return None
    if _UNSAFE.search(text):
        return None
    section, found = "", []
    for line in text.split("\n"):
        stripped = line.strip(" \t")
        if not stripped or stripped[0] in ";#":
            continue
        if header := _HEADER.fullmatch(line):
            section = header[1].strip(" \t")
        elif setting := _SETTING.fullmatch(line):
            key = setting[1].lower()
            value = _what_counts(key, setting[2])
            if value is not None:
                found.append(Setting(section, key, value))
        else:
            return None
    # Where a section or a key stands does not matter; which of two equal ones comes last does.
    return sorted(found, key=lambda setting: setting[:2])


def printable(text: str) -> str:
    r"""Return the text with everything that is not printable (escape sequences, bidi marks) as `\x1b`."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode("ascii")
        for char in text
    )


def read_plain(path: Path) -> bytes | None:
    """Return what is in a file; None where there is none.

    Raises:
        LlmstackError: it cannot be read, is larger than `MAX_BYTES`, or is not a plain file.
    """
    try:
        # Not opened before it is known to be a plain file: opening a pipe would wait for a writer.
        facts = path.stat()
        if not stat.S_ISREG(facts.st_mode):
            raise LlmstackError(f"{printable(str(path))} is not a plain file", hint="remove it")
        if facts.st_size > MAX_BYTES:
            raise LlmstackError(
                f"{printable(str(path))} is larger than {MAX_BYTES >> 20} MiB", hint="remove it"
            )
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LlmstackError(
            f"cannot read {printable(str(path))}: {error.strerror or error}",
            hint="check the permissions of the file",
        ) from error


def resolved(path: Path) -> str:
    """Return the absolute path without links, also of what does not exist."""
    return os.path.realpath(path)


def _what_counts(key: str, text: str) -> str | None:
    comment = _TRAILING_COMMENT.search(text)
    before = text[: comment.start()] if comment else text
    value = (text if _QUOTES.search(before) else before).strip(" \t")
    if key in _LOCATORS and _ADDRESS.search(value):
        return value
    if key in _MODEL_KEYS:
        provider, slash, _ = value.partition("/")
        return f"{provider}/…" if slash else value
    return None if key in FREE_KEYS else value


def _condense(data: bytes | None) -> bytes | None:
    if data is None:
        return None
    settings = settings_that_count(data)
    if settings is None:
        return b"whole\n" + data
    return b"settings\n" + "\n".join(f"[{one.section}]{one.key}={one.value}" for one in settings).encode()
