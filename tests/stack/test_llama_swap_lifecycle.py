"""The stack over llama-swap: a stand-in for it, which starts the real model servers it is told to."""

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
from support.home import at_home
from support.net import listener
from support.project import CliProject
from support.waiting import wait_until
from support.yaml_text import load_yaml

from llmstack.process.leftovers import instance_of, of_instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

pytestmark = pytest.mark.engine


@contextlib.contextmanager
def installed(root: Path, env: Mapping[str, str]) -> Iterator[CliProject]:
    """A project with llama-swap installed for its user."""
    project = CliProject(root / "project", env={**env, "LLMSTACK_BIN_DIR": str(root / "bin")})
    install(root / "bin")
    project.directory.mkdir()
    yield project
    project.close()
    assert not of_instance(instance_of(project.state))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    with installed(tmp_path, os.environ) as project:
        yield project


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliProject]:
    """A stack for the tests that leave it as it was; tier `cut` has half a model."""
    root = tmp_path_factory.mktemp("swapped")
    with installed(root, at_home(root / "home", os.environ)) as project:
        project.write()
        whole = project.model("plan").read_bytes()
        project.model("cut").write_bytes(whole[: len(whole) // 2])
        ini = project.state / "models.ini"
        ini.write_text(f"{ini.read_text()}[cut]\npath = {project.model('cut')}\n")
        project.run("install", "--trust").check()
        project.run_process("start").check()  # no child of ours, as its models come and go between tests
        yield project


def swap_port(project: CliProject) -> int:
    return int(json.loads((project.state / "llama-swap.pid").read_text())["port"])


def written(project: CliProject) -> dict[str, Any]:
    document: dict[str, Any] = load_yaml((project.state / "llama-swap.yaml").read_text())
    return document


def states(project: CliProject) -> dict[str, str]:
    return {tier["name"]: tier["state"] for tier in project.status()["tiers"]}


def below_llama_swap(project: CliProject) -> list[psutil.Process]:
    return [psutil.Process(each.pid) for each in of_instance(instance_of(project.state))]


def llama_swap(project: CliProject) -> psutil.Process:
    """The process itself, not the launcher that its pid file names."""
    (child,) = psutil.Process(project.pid("llama-swap")).children()
    return child


def test_start_serves_and_stop_leaves_nothing(project: CliProject) -> None:
    project.install()
    started = project.run("start").check()
    assert "  code-fast is loaded" in started.err
    status = project.status()
    about = status["swapper"]
    assert (about["kind"], about["port"], about["pid"]) == (
        "llama-swap",
        swap_port(project),
        project.pid("llama-swap"),
    )
    assert states(project)["code-fast"] == "resident"
    assert project.said("hello") == "[code-ultra] You said: hello"
    assert project.said("hello", "plan") == "[plan] You said: hello"
    body = {"model": "plan", "messages": [{"role": "user", "content": "in pieces"}], "stream": True}
    with httpx.stream("POST", f"{project.url}/v1/chat/completions", json=body, timeout=30) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert answer.headers["x-llmstack-tier"] == "plan"
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 5
    fast = next(tier for tier in status["tiers"] if tier["name"] == "code-fast")
    assert psutil.Process(fast["pid"]).is_running()
    shown = project.run("status").out
    assert f"swapper  llama-swap (pid {about['pid']}, port {about['port']}), bundled llama.cpp" in shown
    assert "prompts  not saved: llama-swap stops models" in shown
    assert project.run("stop").check().err == "stopped\n"
    assert not project.processes()
    assert not below_llama_swap(project)
    assert not list(project.state.glob("*.pid"))


def test_every_port_refuses_strangers_and_no_secret_is_in_a_command_line(swapped: CliProject) -> None:
    path = swapped.state / "llama-swap.yaml"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    document = written(swapped)
    (key,) = document["apiKeys"]
    secret = document["models"]["code-fast"]["proxy"].rpartition("/")[2]
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert lines
    assert not any(hidden in word for hidden in (key, secret) for line in lines for word in line)
    others = [file for file in swapped.state.rglob("*") if file.is_file() and file != path]
    assert not any(hidden.encode() in file.read_bytes() for hidden in (key, secret) for file in others)
    url = f"http://127.0.0.1:{swap_port(swapped)}"
    body = {"model": "code-fast", "messages": [{"role": "user", "content": "hi"}]}
    for where in ("/v1/chat/completions", "/upstream/code-fast/v1/chat/completions"):
        assert httpx.post(url + where, json=body).status_code == 401
        allowed = httpx.post(url + where, json=body, headers={"authorization": f"Bearer {key}"}, timeout=30)
        assert allowed.json()["choices"][0]["message"]["content"] == "[code-fast] You said: hi"
    server = next(process for process in swapped.processes() if "--alias" in process.cmdline())
    port = server.cmdline()[server.cmdline().index("--port") + 1]
    for where in ("/health", "/props", "/v1/chat/completions"):
        assert httpx.post(f"http://127.0.0.1:{port}{where}", json=body).status_code == 404


def test_a_tier_that_fails_shows_the_engines_own_words(swapped: CliProject) -> None:
    refused = swapped.ask("hello", "cut")
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert message.startswith("the model server of cut did not start\n  ")
    assert "failed to load model" in message
    assert states(swapped)["cut"] == "down"
    assert swapped.said("hello", "code-fast") == "[code-fast] You said: hello"


def test_a_model_server_that_dies_is_explained_and_started_again(swapped: CliProject) -> None:
    fast = next(tier for tier in swapped.status()["tiers"] if tier["name"] == "code-fast")
    os.kill(fast["pid"], signal.SIGKILL)
    answers = [swapped.ask("hello", "code-fast") for _ in range(2)]
    assert answers[-1].status_code == 200
    assert answers[0].status_code == 200 or "the model server of code-fast ended" in answers[0].text


def test_a_killed_router_takes_llama_swap_along(project: CliProject) -> None:
    project.install()
    project.start()
    assert below_llama_swap(project)
    os.kill(project.pid(), signal.SIGKILL)
    wait_until(lambda: not below_llama_swap(project), timeout=10)
    project.start()
    assert project.said("again", "code-fast") == "[code-fast] You said: again"


def test_llama_swap_is_started_again_after_a_crash(swapped: CliProject) -> None:
    before = llama_swap(swapped)
    before.kill()
    wait_until(lambda: (swapped.state / "llama-swap.pid").exists() and swapped.said_ok("again"), timeout=20)
    assert llama_swap(swapped) != before
    wait_until(lambda: states(swapped)["code-fast"] == "resident")
    servers = [process for process in swapped.processes() if "--alias" in process.cmdline()]
    lines = [" ".join(process.cmdline()) for process in servers]
    assert len([line for line in lines if "--alias code-fast" in line]) == 1


def test_what_a_killed_llama_swap_left_is_stopped_at_the_next_start(project: CliProject) -> None:
    project.install()
    project.start()
    model = next(process for process in project.processes() if "--alias" in process.cmdline())
    environment = model.environ()
    project.run("stop").check()
    # A model server that holds on to nothing: whatever its lifeline, the id in its environment gives it away.
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


def test_load_unload_and_restart(swapped: CliProject) -> None:
    assert swapped.run("load", "plan").check().err.endswith("plan is loaded\n")
    assert states(swapped)["plan"] == "resident"
    assert swapped.run("unload", "plan").check().err.endswith("unloaded plan\n")
    assert states(swapped)["plan"] == "idle"
    before = written(swapped)["apiKeys"]
    swapped.run_process("restart").check()
    assert written(swapped)["apiKeys"] != before
    assert swapped.said("hello", "plan") == "[plan] You said: hello"


def test_reload_lets_a_stream_end_and_takes_up_the_file(project: CliProject) -> None:
    project.install()
    project.start()
    router, before = project.pid(), written(project)["apiKeys"]
    ini = project.state / "models.ini"
    right = ini.read_text()
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = lots"))
    assert project.run("reload").code == 1
    assert written(project)["apiKeys"] == before
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = 8k"))
    body = {"model": "plan", "messages": [{"role": "user", "content": "x" * 300}], "stream": True}
    with httpx.stream("POST", f"{project.url}/v1/chat/completions", json=body, timeout=30) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        reloading = project.popen("reload")
        assert [line for line in lines if line][-1] == "data: [DONE]"
    assert reloading.communicate(timeout=30)[1]
    assert reloading.returncode == 0
    assert "--ctx-size 16384 " in written(project)["models"]["plan"]["cmd"]
    assert written(project)["apiKeys"] != before
    assert project.said("hello", "plan") == "[plan] You said: hello"
    assert project.pid() == router


def test_it_is_written_for_the_channel(project: CliProject) -> None:
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
        about = written(project)["models"]["q"]
        assert (about["metadata"]["channel"], about["metadata"]["model"]) == (channel, model)
        assert f"/{model} " in about["cmd"]
        assert project.said("hello", "q") == "[code-fast] You said: hello"


def test_without_its_binary_both_ways_out_are_named(project: CliProject) -> None:
    project.env["LLMSTACK_BIN_DIR"] = str(project.directory / "empty")
    project.install(defaults="swapper = llama-swap")
    refused = project.run("start")
    assert refused.code == 1
    assert "error: swapper = llama-swap, and there is no" in refused.err
    assert "`llmstack install-llama-swap`" in refused.err
    assert "`swapper = builtin`" in refused.err
    assert not project.processes()


def test_a_taken_port_is_named_with_its_owner(project: CliProject) -> None:
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


def test_builtin_is_used_where_it_is_asked_for_or_nothing_else_is_there(project: CliProject) -> None:
    project.install(defaults="swapper = builtin")
    project.start()
    assert project.status()["swapper"]["kind"] == "builtin"
    project.run("stop").check()
    project.env["LLMSTACK_BIN_DIR"] = str(project.directory / "empty")
    project.install()
    project.start()
    assert project.status()["swapper"]["kind"] == "builtin"
    assert set(written(project)["models"]) == {"code-fast", "code-smart", "code-ultra", "plan"}
