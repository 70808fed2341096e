"""The stack with llama-swap: a fake that starts real model servers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import stat
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from support.fake_llama_swap import install
from support.home import isolated_env
from support.net import listener
from support.project import CliProject
from support.waiting import wait_until
from support.yaml_text import load_yaml

from llmstack.process.leftovers import find_instance, instance_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.engine


@contextlib.contextmanager
def project_with_llama_swap(root: Path, env: Mapping[str, str]) -> Iterator[CliProject]:
    """A project with llama-swap installed for its user."""
    project = CliProject(root / "project", env={**env, "LLMSTACK_BIN_DIR": str(root / "bin")})
    install(root / "bin")
    project.directory.mkdir()
    yield project
    project.close()
    assert not find_instance(instance_id(project.state))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    with project_with_llama_swap(tmp_path, os.environ) as project:
        yield project


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    """A running stack shared by tests that do not change it; tier `cut` has half a model."""
    root = tmp_path_factory.mktemp("swapped")
    with project_with_llama_swap(root, isolated_env(root / "home", os.environ)) as project:
        project.write()
        whole = project.model("plan").read_bytes()
        project.model("cut").write_bytes(whole[: len(whole) // 2])
        ini = project.state / "models.ini"
        ini.write_text(f"{ini.read_text()}[cut]\npath = {project.model('cut')}\n")
        project.run("install", "--trust").check()
        project.run_process("start").check()  # in its own process: its models change between tests
        yield project


def swap_port(project: CliProject) -> int:
    return int(json.loads((project.state / "llama-swap.pid").read_text())["port"])


def read_llama_swap_yaml(project: CliProject) -> dict[str, Any]:
    document: dict[str, Any] = load_yaml(project.private.llama_swap_yaml.read_text())
    return document


def tier_states(project: CliProject) -> dict[str, str]:
    return {tier["name"]: tier["state"] for tier in project.status()["tiers"]}


def llama_swap_processes(project: CliProject) -> list[psutil.Process]:
    return [psutil.Process(each.pid) for each in find_instance(instance_id(project.state))]


def llama_swap(project: CliProject) -> psutil.Process:
    """The process itself, not the launcher that its pid file names."""
    (child,) = psutil.Process(project.pid("llama-swap")).children()
    return child


def test_start_serves_and_stop_leaves_nothing(project: CliProject) -> None:
    project.install()
    started = project.run("start").check()
    assert "  code-fast is loaded" in started.err
    status = project.status()
    swapper = status["swapper"]
    assert (swapper["kind"], swapper["port"], swapper["pid"]) == (
        "llama-swap",
        swap_port(project),
        project.pid("llama-swap"),
    )
    assert tier_states(project)["code-fast"] == "resident"
    assert project.answer("hello") == "[code-ultra] You said: hello"
    assert project.answer("hello", "plan") == "[plan] You said: hello"
    body = {"model": "plan", "messages": [{"role": "user", "content": "in pieces"}], "stream": True}
    with httpx.stream("POST", f"{project.url}/v1/chat/completions", json=body, timeout=30) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert answer.headers["x-llmstack-tier"] == "plan"
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 5
    fast = next(tier for tier in status["tiers"] if tier["name"] == "code-fast")
    assert psutil.Process(fast["pid"]).is_running()
    shown = project.run("status").out
    assert f"swapper  llama-swap (pid {swapper['pid']}, port {swapper['port']}), bundled llama.cpp" in shown
    assert "prompts  not saved: llama-swap stops models" in shown
    assert project.run("stop").check().err == "stopped\n"
    assert not project.processes()
    assert not llama_swap_processes(project)
    assert not list(project.state.glob("*.pid"))


def test_every_port_requires_a_key_and_no_secret_is_in_a_command_line(swapped: CliProject) -> None:
    path = swapped.private.llama_swap_yaml
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = read_llama_swap_yaml(swapped)
    (key,) = document["apiKeys"]
    secret = document["models"]["code-fast"]["proxy"].rpartition("/")[2]
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert lines
    assert not any(hidden in word for hidden in (key, secret) for line in lines for word in line)
    others = [file for file in swapped.state.rglob("*") if file.is_file() and file != path]
    assert not any(hidden.encode() in file.read_bytes() for hidden in (key, secret) for file in others)
    url = f"http://127.0.0.1:{swap_port(swapped)}"
    body = {"model": "code-fast", "messages": [{"role": "user", "content": "hi"}]}
    for route in ("/v1/chat/completions", "/upstream/code-fast/v1/chat/completions"):
        assert httpx.post(url + route, json=body).status_code == 401
        allowed = httpx.post(url + route, json=body, headers={"authorization": f"Bearer {key}"}, timeout=30)
        assert allowed.json()["choices"][0]["message"]["content"] == "[code-fast] You said: hi"
    server = next(process for process in swapped.processes() if "--alias" in process.cmdline())
    port = server.cmdline()[server.cmdline().index("--port") + 1]
    for route in ("/health", "/props", "/v1/chat/completions"):
        assert httpx.post(f"http://127.0.0.1:{port}{route}", json=body).status_code == 404


def test_a_tier_that_fails_to_load_shows_the_output_of_llama_server(swapped: CliProject) -> None:
    refused = swapped.ask("hello", "cut")
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert message.startswith("the model server of cut did not start\n  ")
    assert "failed to load model" in message
    assert tier_states(swapped)["cut"] == "down"
    assert swapped.answer("hello", "code-fast") == "[code-fast] You said: hello"


def test_a_model_server_that_dies_is_reported_and_restarted(swapped: CliProject) -> None:
    fast = next(tier for tier in swapped.status()["tiers"] if tier["name"] == "code-fast")
    os.kill(fast["pid"], signal.SIGKILL)
    answers = [swapped.ask("hello", "code-fast") for _ in range(2)]
    assert answers[-1].status_code == 200
    assert answers[0].status_code == 200 or "the model server of code-fast ended" in answers[0].text


def test_llama_swap_ends_if_its_router_is_killed(project: CliProject) -> None:
    project.install()
    project.start()
    assert llama_swap_processes(project)
    os.kill(project.pid(), signal.SIGKILL)
    wait_until(lambda: not llama_swap_processes(project), timeout=10)
    project.start()
    assert project.answer("again", "code-fast") == "[code-fast] You said: again"


def test_llama_swap_is_restarted_after_a_crash(swapped: CliProject) -> None:
    before = llama_swap(swapped)
    before.kill()
    wait_until(
        lambda: (swapped.state / "llama-swap.pid").exists() and swapped.is_answered("again"), timeout=20
    )
    assert llama_swap(swapped) != before
    wait_until(lambda: tier_states(swapped)["code-fast"] == "resident")
    servers = [process for process in swapped.processes() if "--alias" in process.cmdline()]
    lines = [" ".join(process.cmdline()) for process in servers]
    assert len([line for line in lines if "--alias code-fast" in line]) == 1


def test_model_servers_of_a_killed_llama_swap_are_stopped_at_the_next_start(project: CliProject) -> None:
    project.install()
    project.start()
    model = next(process for process in project.processes() if "--alias" in process.cmdline())
    environment = model.environ()
    project.run("stop").check()
    # Without the pipe from its parent, only the instance id in its environment identifies a model server.
    del environment["LLMSTACK_LIFELINE"]
    orphan = subprocess.Popen(["sleep", "600"], env=environment)
    stranger = subprocess.Popen(["sleep", "600"], env={**environment, "LLMSTACK_INSTANCE": "another project"})
    try:
        project.start()
        assert orphan.wait(5) < 0
        assert stranger.poll() is None
    finally:
        for process in (orphan, stranger):
            process.kill()
            process.wait()


def test_tiers_are_loaded_and_unloaded_and_a_restart_changes_the_key(swapped: CliProject) -> None:
    assert swapped.run("load", "plan").check().err.endswith("plan is loaded\n")
    assert tier_states(swapped)["plan"] == "resident"
    assert swapped.run("unload", "plan").check().err.endswith("unloaded plan\n")
    assert tier_states(swapped)["plan"] == "idle"
    before = read_llama_swap_yaml(swapped)["apiKeys"]
    swapped.run_process("restart").check()
    assert read_llama_swap_yaml(swapped)["apiKeys"] != before
    assert swapped.answer("hello", "plan") == "[plan] You said: hello"


def test_reload_waits_for_streams_and_applies_the_file(project: CliProject) -> None:
    project.install()
    project.start()
    router, before = project.pid(), read_llama_swap_yaml(project)["apiKeys"]
    ini = project.state / "models.ini"
    right = ini.read_text()
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = lots"))
    assert project.run("reload").code == 1
    assert read_llama_swap_yaml(project)["apiKeys"] == before
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = 8k"))
    body = {"model": "plan", "messages": [{"role": "user", "content": "x" * 300}], "stream": True}
    with httpx.stream("POST", f"{project.url}/v1/chat/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        reloading = project.popen("reload")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert reloading.communicate(timeout=30)[1]
    assert reloading.returncode == 0
    assert "--ctx-size 16384 " in read_llama_swap_yaml(project)["models"]["plan"]["cmd"]
    assert read_llama_swap_yaml(project)["apiKeys"] != before
    assert project.answer("hello", "plan") == "[plan] You said: hello"
    assert project.pid() == router


def test_llama_swap_yaml_is_written_for_the_channel(project: CliProject) -> None:
    cache = project.directory.parent / "hub"
    snapshot = cache / "models--org--m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    project.env["HF_HUB_CACHE"] = str(cache)
    project.write(tiers=("code-fast",))
    for name in ("one", "two"):
        (snapshot / f"{name}.gguf").write_bytes(project.model("code-fast").read_bytes())
    ini = project.state / "models.ini"
    queued = "[q]\nrole = agent\nhf_repo = org/m\nhf_file = one.gguf\nhf_file_next = two.gguf\n"
    ini.write_text(ini.read_text() + queued)
    project.run("install", "--trust").check()
    for arguments, channel, model in (
        (["start", "--next"], "next", "two.gguf"),
        (["restart"], "current", "one.gguf"),
    ):
        project.run(*arguments).check()
        model_entry = read_llama_swap_yaml(project)["models"]["q"]
        assert (model_entry["metadata"]["channel"], model_entry["metadata"]["model"]) == (channel, model)
        assert f"/{model} " in model_entry["cmd"]
        assert project.answer("hello", "q") == "[code-fast] You said: hello"


def test_a_missing_llama_swap_is_an_error_with_both_remedies(project: CliProject) -> None:
    project.env["LLMSTACK_BIN_DIR"] = str(project.directory / "empty")
    project.install(defaults="swapper = llama-swap")
    refused = project.run("start")
    assert refused.code == 1
    assert "error: swapper = llama-swap, but there is no program" in refused.err
    assert "`llmstack install-llama-swap`" in refused.err
    assert "`swapper = builtin`" in refused.err
    assert not project.processes()


def test_a_taken_port_is_an_error_that_names_its_owner(project: CliProject) -> None:
    project.install()
    text = (project.state / "models.ini").read_text()
    port = int(re.search(r"swap_port = (\d+)", text)[1])  # type: ignore[index]
    with listener(port):
        refused = project.run("start")
    assert refused.code == 1
    owner = psutil.Process().name()
    assert re.search(rf"error: port {port} for llama-swap is taken by {owner} \(pid \d+\)", refused.err)
    assert "another `swap_port` in models.ini" in refused.err
    assert not project.processes()


def test_the_built_in_pool_is_used_if_requested_or_if_llama_swap_is_missing(project: CliProject) -> None:
    project.install(defaults="swapper = builtin")
    project.start()
    assert project.status()["swapper"]["kind"] == "builtin"
    project.run("stop").check()
    project.env["LLMSTACK_BIN_DIR"] = str(project.directory / "empty")
    project.install()
    project.start()
    assert project.status()["swapper"]["kind"] == "builtin"
    assert set(read_llama_swap_yaml(project)["models"]) == {"code-fast", "code-smart", "code-ultra", "plan"}
