"""Helpers for tests about trusted projects."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from llmstack.errors import LlmstackError
from llmstack.paths import Project
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import fingerprint, read_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODELS_INI = """\
; the models of this project
[DEFAULT]
host = 127.0.0.1
parallel = 2

[code-fast]
role = fast
hf_repo = acme/tiny-GGUF
hf_file = tiny.gguf
ctx_size = 64k   ; tokens
extra_args = --mlock   ; keep it in memory

[plan]
model = ollama/qwen:7b
base_url = http://127.0.0.1:11434
"""
posix = pytest.mark.skipif(sys.platform == "win32", reason="links and owners are those of POSIX")


def make_project(work_dir: Path) -> Project:
    """Write a project with one file of each kind that trust looks at."""
    project = Project.at(work_dir, {})
    project.state.mkdir(parents=True)
    project.models_ini.write_text(MODELS_INI)
    project.opencode_json.write_text('{"model": "llama.cpp/auto"}')
    project.litellm_config.write_text("model_list:\n")
    project.default_channel.write_text("current\n")
    project.agents_md.write_text("Be kind.\n")
    return project


def trust(project: Project, trust_file: Path) -> None:
    """Trust a project as it is now."""
    trust_store.grant(project, trust_file, expected=fingerprint(project))


def verify(project: Project, trust_file: Path) -> None:
    """Refuse a project that is not trusted as it is now."""
    trust_store.verify(project, read_files(project), trust_file)


def error_of(action: Callable[[], object]) -> str:
    """Return the message and hint of the error that an action raises."""
    with pytest.raises(LlmstackError) as caught:
        action()
    return f"{caught.value.message} | {caught.value.hint}"
