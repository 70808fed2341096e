"""`llmstack setup` and `install-llama-swap` as a new user runs them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.hub import running_hub
from support.net import free_port
from support.project import CliProject
from support.releases import PROGRAM, running_release_page
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.hub import FakeHub
    from support.releases import ReleasePage

pytestmark = pytest.mark.engine

CONTENT = os.urandom(500_000)
INI = "[code-fast]\nrole = fast\nhf_repo = org/fast\nhf_file = fast.gguf\nctx_size = 8k\n"


@pytest.fixture
def server() -> Iterator[FakeHub]:
    with running_hub() as hub:
        hub.files["org/fast/fast.gguf"] = CONTENT
        yield hub


@pytest.fixture
def page() -> Iterator[ReleasePage]:
    with running_release_page() as page:
        yield page


@pytest.fixture
def here(tmp_path: Path, server: FakeHub, page: ReleasePage) -> CliProject:
    project = CliProject(tmp_path / "project")
    project.env |= {"HF_ENDPOINT": server.url, "LLAMA_SWAP_RELEASES": page.url}
    project.state.mkdir(parents=True)
    (project.state / "models.ini").write_text(INI)
    project.trust()
    return project


def states(output: str) -> dict[str, str]:
    lines = [line.split() for line in output.splitlines()]
    return {
        line[1]: line[0]
        for line in lines
        if line and line[0] in {"ok", "done", "skipped", "missing", "failed"}
    }


def test_a_second_run_repeats_nothing(here: CliProject, server: FakeHub, page: ReleasePage) -> None:
    here.env |= {"PATH": f"{here.directory}:{here.env['PATH']}", "LLMSTACK_HOOK": "1"}
    (here.directory / "opencode").write_text("#!/bin/sh\n")
    (here.directory / "opencode").chmod(0o755)
    first = here.run_process("setup").check()
    assert states(first.err) == {
        "machine": "ok",
        "engine": "ok",
        "models": "done",
        "llama-swap": "done",
        "hook": "ok",
        "opencode": "ok",
    }
    assert "the built-in pool needs no program" in first.err
    assert first.err.endswith(
        "next, in a project: `llmstack install`, `llmstack start`, `llmstack run opencode`\n"
    )
    counts = len(server.request_log), len(page.requests)
    second = here.run("setup").check()
    assert set(states(second.err).values()) == {"ok"}
    assert "nothing to do: everything is set up\n" in second.err
    assert (len(server.request_log), len(page.requests)) == counts


@pytest.mark.parametrize(
    ("shell", "state", "line"),
    [
        ("/usr/bin/zsh", "missing", 'eval "$(llmstack activate zsh)"'),
        ("/usr/bin/fish", "missing", "llmstack activate fish | source"),
        ("/bin/dash", "skipped", "llmstack activate SHELL"),
    ],
)
def test_setup_prints_the_line_that_installs_the_hook(
    here: CliProject, shell: str, state: str, line: str
) -> None:
    here.env["SHELL"] = shell
    output = here.run("setup", "--skip-download").check().err
    assert states(output)["hook"] == state
    assert line in [each.strip() for each in output.splitlines()]


def test_models_can_be_skipped_or_downloaded_in_the_background(here: CliProject, server: FakeHub) -> None:
    skipped = here.run("setup", "--skip-download").check()
    assert states(skipped.err)["models"] == "skipped"
    assert not server.request_log
    server.bytes_per_s = 200_000
    started = here.run("setup", "--skip-wait").check()
    assert "fetching 1 file in the background (pid " in started.err
    again = here.run("setup", "--skip-wait").check()
    assert "a download is running (pid " in again.err
    server.bytes_per_s = None
    wait_until(lambda: not here.processes(), timeout=20)
    assert "1 file on disk, none missing" in here.run("setup").check().err


def test_a_missing_llama_swap_is_a_warning_and_a_missing_model_a_failure(
    here: CliProject, server: FakeHub
) -> None:
    here.env["LLAMA_SWAP_RELEASES"] = f"http://127.0.0.1:{free_port()}"
    output = here.run("setup").check().err
    assert states(output)["llama-swap"] == "missing"
    assert "the built-in pool serves without it" in output
    server.files.clear()
    (here.state / "models.ini").write_text(INI.replace("fast.gguf", "other.gguf"))
    failed = here.run("setup")
    assert (failed.code, states(failed.err)["models"]) == (1, "failed")


def test_install_llama_swap_keeps_an_installed_release_unless_forced(
    here: CliProject, page: ReleasePage, tmp_path: Path
) -> None:
    here.env["LLMSTACK_BIN_DIR"] = str(tmp_path / "bin")
    done = here.run_process("install-llama-swap").check()
    assert done.err.endswith(f"llama-swap v251 is installed: {tmp_path}/bin/llama-swap\n")
    again = here.run("install-llama-swap").check()
    assert (
        again.err
        == f"llama-swap v251 was already installed: {tmp_path}/bin/llama-swap; `--force` fetches the newest\n"
    )
    here.env["LLAMA_SWAP_VERSION"] = "v250"
    here.run("install-llama-swap", "--force").check()
    assert (tmp_path / "bin" / "llama-swap").read_bytes() == PROGRAM


@pytest.mark.parametrize("command", ["setup", "download", "install-llama-swap"])
def test_a_thin_client_has_no_models_to_set_up(here: CliProject, command: str) -> None:
    (here.state / "default-channel").write_text("external http://127.0.0.1:10101\n")
    here.trust()
    refused = here.run(command)
    assert refused.code == 1
    assert "is a thin client of http://127.0.0.1:10101 and has no models of its own" in refused.err
