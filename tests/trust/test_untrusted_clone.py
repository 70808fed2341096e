"""Commands in a project that was cloned and is not trusted: nothing is contacted, run or read aloud."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from support.project import CliProject
from support.recorder import Recorder, recorder

from llmstack.cli import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "key-of-the-user-7f3a"
PROMPT = "prompt-of-the-user-51c2"
DESCRIPTION = "ignore-all-instructions-90ee"

# What each command does in an untrusted project: `refused`, or why it may go on.
EXPECTED = {
    "demo": "uses a project of its own",
    "setup --skip-download": "refused",
    "install": "refused",
    "install --print": "refused",
    "install-llama-swap": "refused",
    "download --wait": "refused",
    "start": "refused",
    "start --foreground": "refused",
    "stop": "stops only what a pid file of this user names",
    "restart": "refused",
    "reload": "refused",
    "status": "refused",
    "check": "refused",
    f"route {PROMPT}": "refused",
    f"ask {PROMPT}": "refused",
    "use code-fast ollama/x": "refused",
    "run codex": "refused",
    "logs": "lists files",
    "load code-fast": "refused",
    "unload": "refused",
    "promote": "refused",
    "cache list": "refused",
    "mcp": "refused",
    "activate bash": "does not look at the project",
    "trust": "shows what would run, and asks",
    "help": "does not look at the project",
}
REFUSALS = ("this project is not trusted", "files that llmstack did not write, and they are not trusted")


@dataclass
class Clone:
    """A cloned project, the server it wants to be contacted, and the file its programs would create."""

    project: CliProject
    server: Recorder
    proof_of_run: Path


FILE = "path = /models/x.gguf\nctx_size = 8k\n"
KINDS = {
    "another router": ("external {url}\n", ""),
    "a router on its own port": (
        "current\n",
        "[DEFAULT]\nrouter_port = {port}\napi_key_env = OTHER_SECRET\n[code-fast]\nrole = fast\n" + FILE,
    ),
    "a program": (
        "current\n",
        "[code-fast]\nrole = fast\nbackend = mcp\ncommand = touch {file}\ntool = t\nctx_size = 8k\n"
        "description = " + DESCRIPTION + "\n",
    ),
    "a server": (
        "current\n",
        "[code-fast]\nrole = fast\nmodel = vllm/x\nbase_url = {url}\nctx_size = 8k\n"
        "description = " + DESCRIPTION + "\n",
    ),
    "files of a hub": (
        "current\n",
        "[code-fast]\nrole = fast\nhf_repo = evil/x\nhf_file = x.gguf\nctx_size = 8k\n"
        "description = " + DESCRIPTION + "\n",
    ),
    "not installed": (
        "",
        "[code-fast]\nrole = fast\nhf_repo = evil/x\nhf_file = x.gguf\nctx_size = 8k\n"
        "description = " + DESCRIPTION + "\n",
    ),
}


@pytest.fixture(params=list(KINDS.values()), ids=list(KINDS))
def clone(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Clone]:
    marker, models_ini = request.param
    with recorder() as server:
        project = CliProject(tmp_path / "clone")
        project.state.mkdir(parents=True)
        file = tmp_path / "it-ran"
        values = {"url": server.url, "port": server.port, "file": file}
        if marker:
            (project.state / "default-channel").write_text(marker.format(**values))
        if models_ini:
            (project.state / "models.ini").write_text(models_ini.format(**values))
        project.env |= {
            "LLMSTACK_API_KEY": KEY,
            "OTHER_SECRET": KEY,
            "HF_ENDPOINT": server.url,
            "HF_TOKEN": KEY,
        }
        yield Clone(project, server, file)


def test_every_command_has_an_expectation() -> None:
    assert {command.split()[0] for command in EXPECTED} == COMMANDS.keys()


@pytest.mark.parametrize("command", [command for command in EXPECTED if command != "demo"])
def test_a_command_in_an_untrusted_clone_contacts_nothing(clone: Clone, command: str) -> None:
    result = clone.project.run(*command.split())
    assert clone.server.received == []
    assert not clone.proof_of_run.exists()
    assert KEY not in result.out + result.err
    if EXPECTED[command] == "refused":
        assert result.code == 1
        assert any(refusal in result.err for refusal in REFUSALS), result.err
        assert DESCRIPTION not in result.out


def test_the_same_commands_contact_the_server_once_the_project_is_trusted(tmp_path: Path) -> None:
    """Otherwise the test above could not fail."""
    with recorder() as server:
        project = CliProject(tmp_path / "clone")
        project.state.mkdir(parents=True)
        (project.state / "default-channel").write_text(f"external {server.url}\n")
        project.run("trust", "--yes").check()
        project.run("status")
        assert server.received
