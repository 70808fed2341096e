"""Start and stop a stack, and everything that can go wrong in between."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest
from support.net import free_port, listener
from support.project import CliProject
from support.waiting import wait_until

from llmstack.commands.stop import stop
from llmstack.process.child import GRACE_S
from llmstack.router.http.limits import HttpLimits
from llmstack.serving.kv.cache import SAVE_ALL_S
from llmstack.stack.lifecycle.stop import STOP_GRACE_S

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

pytestmark = pytest.mark.engine

Foreground = tuple[CliProject, "subprocess.Popen[str]"]
SLOW_SERVER = Path(__file__).with_name("slow_server.py")


@pytest.fixture
def slow(project: CliProject) -> CliProject:
    """A project whose models never finish loading."""
    project.env["LLAMA_SERVER_BIN"] = str(SLOW_SERVER)
    project.install()
    return project


def is_router_up(project: CliProject) -> bool:
    try:
        return httpx.get(f"{project.url}/health").is_success
    except httpx.TransportError:
        return False


def test_start_serves_and_stop_leaves_nothing(project: CliProject) -> None:
    project.install()
    started = project.run_process("start").check()
    assert re.search(
        rf"^llmstack is up after [\d.]+ s at {project.url} \(pid \d+\)$", started.err, re.MULTILINE
    )
    assert "  code-fast is loaded" in started.err
    assert project.answer("hello") == "[code-ultra] You said: hello"
    assert project.run_process("stop").check().err == "stopped\n"
    assert not project.processes()
    assert sorted(path.name for path in project.state.glob("*.pid")) == []
    assert not (project.state / "active-channel").exists()


def test_stop_waits_longer_than_the_router_needs_to_end() -> None:
    requests = HttpLimits().drain_s + 2 * HttpLimits().cut_s
    assert requests + SAVE_ALL_S + GRACE_S <= STOP_GRACE_S
    assert inspect.signature(stop).parameters["timeout"].default == STOP_GRACE_S


def test_a_second_start_reports_the_running_stack(shared: CliProject) -> None:
    pid = shared.pid()
    again = shared.run("start").check()
    assert again.err == f"llmstack was running already at {shared.url} (pid {pid})\n"
    assert shared.pid() == pid


def test_start_on_another_address_than_the_running_stack_is_an_error(shared: CliProject) -> None:
    pid = shared.pid()
    for flag, value, actual in (("host", "127.0.0.2", "127.0.0.1"), ("port", "1", shared.port)):
        again = shared.run("start", f"--{flag}", value)
        assert again.code == 1
        assert again.err == (
            f"error: the stack runs on {flag} {actual}, not {value}\n"
            f"hint: move it with `llmstack restart --{flag} {value}`\n"
        )
    assert shared.pid() == pid


def test_two_concurrent_starts_make_one_router(project: CliProject) -> None:
    project.install()
    both = [project.popen("start", "--detach") for _ in range(2)]
    errors = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert sorted("already" in text for text in errors) == [False, True]
    assert len([process for process in project.processes() if "llmstack.router" in process.cmdline()]) == 1


def test_start_names_the_project_that_owns_the_port(shared: CliProject, tmp_path: Path) -> None:
    second = CliProject(tmp_path / "second", port=shared.port)
    second.install()
    refused = second.run("start")
    assert refused.code == 1
    assert f"error: the router at {shared.url} belongs to {shared.directory}" in refused.err
    assert "hint: use it from here with `llmstack install --external`" in refused.err
    assert second.run("stop").check().err == "nothing was running\n"
    assert is_router_up(shared)


def test_a_second_stop_finds_nothing(stack: CliProject) -> None:
    assert stack.run("stop").check().err == "stopped\n"
    assert stack.run("stop").check().err == "nothing was running\n"


def test_stop_names_the_file_that_it_cannot_remove(project: CliProject) -> None:
    project.install()
    marker = project.state / "active-channel"
    marker.mkdir()
    refused = project.run("stop")
    assert (refused.code, refused.err.split(":")[:2]) == (1, ["error", f" cannot remove {marker}"])
    marker.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(project.state / "router.pid")  # opening it would wait for a writer
        assert (
            project.run("stop").err
            == f"error: {project.state / 'router.pid'} is not a plain file\nhint: remove it\n"
        )
        (project.state / "router.pid").unlink()


def test_an_interrupted_stop_can_be_repeated(stack: CliProject) -> None:
    os.kill(stack.pid(), signal.SIGSTOP)  # a router that hangs
    stopping = stack.popen("stop")
    wait_until(lambda: not (stack.state / "active-channel").exists(), timeout=20)
    stopping.send_signal(signal.SIGINT)
    stopping.communicate(timeout=20)
    assert stopping.returncode == 130
    assert "stopped" in stack.run("stop", "--timeout", "0").check().err
    assert not stack.processes()
    assert list(stack.state.glob("*.pid")) == []


def test_start_names_a_router_whose_pid_file_is_missing(stack: CliProject) -> None:
    pid_file = stack.state / "router.pid"
    content, pid = pid_file.read_text(), stack.pid()
    pid_file.unlink()
    refused = stack.run("start")
    assert refused.code == 1
    assert (
        f"a router of this project already runs at {stack.url}, but its pid file is missing\n" in refused.err
    )
    assert f"(pid {pid})" in refused.err or sys.platform != "linux"
    pid_file.write_text(content)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("LOG_LEVEL", "banana", "the router ended: LOG_LEVEL: expected `debug`, `info`"),
        ("LLMSTACK_API_KEY", "two\nlines", "$LLMSTACK_API_KEY: expected a key of printable ASCII"),
    ],
)
def test_an_invalid_environment_variable_is_an_error(
    project: CliProject, name: str, value: str, message: str
) -> None:
    project.install()
    project.env[name] = value
    refused = project.run_process("start")
    assert refused.code == 1
    assert f"error: {message}" in refused.err
    assert "Traceback" not in refused.err


def test_an_install_that_cannot_store_its_models_writes_nothing(project: CliProject) -> None:
    (project.directory.parent / "full").write_text("")
    project.env["XDG_DATA_HOME"] = str(project.directory.parent / "full")
    refused = project.run_process("install", "--profile", "demo")
    assert (refused.code, refused.err.split(":")[0]) == (1, "error")
    assert not (project.state / "models.ini").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_directory_whose_name_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    odd = CliProject(tmp_path / "\udcff")
    odd.directory.mkdir()
    refused = odd.run("install", "--profile", "demo")
    assert refused.err == (
        f"error: cannot remember a name that is not UTF-8: {tmp_path}/\\udcff\nhint: rename it\n"
    )
    assert list(odd.directory.iterdir()) == []


def test_a_directory_name_that_looks_like_markup_is_printed_as_is(tmp_path: Path) -> None:
    odd = CliProject(tmp_path / "[bold] x[" / "b]")
    odd.write(trusted=False)
    refused = odd.run("install")
    assert (refused.code, f"{odd.state} has files" in refused.err) == (1, True)
    assert odd.run("trust", "--yes").check().err.endswith(f"{odd.directory} is trusted\n")
    assert odd.run("trust", "--revoke").check().err == f"{odd.directory} is no longer trusted\n"
    assert odd.run("trust", "--revoke").check().err == f"{odd.directory} was not trusted\n"


def test_stop_interrupts_a_slow_start(slow: CliProject) -> None:
    starting = slow.popen("start")
    wait_until((slow.state / "model-code-fast.pid").exists, timeout=20)
    assert slow.run("stop").check().err == "stopped\n"
    _, error = starting.communicate(timeout=20)
    assert starting.returncode == 1
    assert error.endswith("error: the stack was stopped while it was starting\n")
    assert not slow.processes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_a_slow_start_leaves_nothing_running(
    slow: CliProject, number: int, code: int
) -> None:
    starting = slow.popen("start")
    wait_until((slow.state / "model-code-fast.pid").exists, timeout=20)
    starting.send_signal(number)
    starting.communicate(timeout=20)
    assert starting.returncode == code
    assert not slow.processes()
    assert not (slow.state / "router.pid").exists()


def test_models_of_a_killed_router_end_and_the_stack_starts_again(stack: CliProject) -> None:
    stack.answer("hello")
    models = [process for process in stack.processes() if "llmstack.llama_cpp.bundled" in process.cmdline()]
    assert len(models) == 2
    os.kill(stack.pid(), signal.SIGKILL)
    wait_until(lambda: not any(model.is_running() for model in models), timeout=5)
    down = stack.run("status")
    assert (down.code, "not running" in down.out) == (1, True)
    stack.start()
    assert stack.answer("again") == "[code-ultra] You said: again"


def test_a_taken_port_is_an_error_that_names_its_owner(project: CliProject) -> None:
    project.install()
    with listener(project.port):
        refused = project.run("start")
    assert refused.code == 1
    owner = rf"error: port {project.port} is taken by {psutil.Process().name()} \(pid {os.getpid()}\)\n"
    assert re.search(owner, refused.err)
    assert "hint: stop that program, or set another `router_port` in models.ini\n" in refused.err
    assert not (project.state / "router.pid").exists()


def test_a_taken_model_port_is_skipped(project: CliProject) -> None:
    project.install()
    text = (project.state / "models.ini").read_text()
    first = int(re.search(r"start_port = (\d+)", text)[1])  # type: ignore[index]
    with listener(first):
        project.start()
        assert project.answer("hello", "code-fast") == "[code-fast] You said: hello"


def test_every_mistake_in_models_ini_is_reported_with_its_line(project: CliProject) -> None:
    project.install()
    ini = project.state / "models.ini"
    ini.write_text(
        "[DEFAULT]\n"
        "router_prot = 10101\n"
        "[code-fast]\n"
        "role = fats\n"
        f"path = {project.model('code-fast')}\n"
        "ctx_size = 64kb\n"
        "sampler = temp=warm\n"
        "[plan]\n"
        "role = plan\n"
        "ctx_size = 64k\n"
    )
    refused = project.run("start")
    assert refused.code == 1
    lines = [
        int(line) for line in re.findall(rf"^error: {re.escape(str(ini))}:(\d+):", refused.err, re.MULTILINE)
    ]
    assert lines == [2, 4, 6, 7, 8]
    assert "hint: write `ctx_size = 64k` or `65536`" in refused.err
    assert not project.processes()


def test_a_tier_without_its_model_file_is_reported_and_the_rest_runs(project: CliProject) -> None:
    project.install(extra=f"[plan-b]\npath = {project.directory}/missing.gguf\n")
    started = project.run("start").check()
    missing = f"{project.directory}/missing.gguf is not on disk"
    assert f"warning: plan-b cannot start: {missing}" in started.err
    assert project.answer("hello", "plan") == "[plan] You said: hello"
    refused = project.ask("hello", "plan-b")
    assert refused.status_code == 503
    assert missing in refused.json()["error"]["message"]
    assert project.status()["tiers"][-1]["state"] == "down"


def test_start_without_any_model_file_is_an_error(project: CliProject) -> None:
    project.install(tiers=("code-fast",))
    project.model("code-fast").unlink()
    refused = project.run("start")
    assert refused.code == 1
    assert refused.err.startswith("error: no tier can start:\n  code-fast: ")
    assert not (project.state / "router.pid").exists()


def test_a_corrupt_model_is_an_error_with_the_output_of_llama_server(project: CliProject) -> None:
    project.install()
    whole = project.model("plan").read_bytes()
    project.model("plan").write_bytes(
        whole[: len(whole) // 2]
    )  # the header is valid, the tensors are cut off
    project.start()
    refused = project.ask("hello", "plan")
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert message.startswith("the model server of plan ended (exit code 1)")
    assert "failed to load model" in message
    status = project.run("status")
    assert status.code == 1
    assert "down" in status.out


def test_a_file_that_is_no_model_is_reported_at_the_start(project: CliProject) -> None:
    project.install()
    project.model("plan").write_text("<html>not found</html>")
    started = project.run("start").check()
    assert "warning: plan cannot start:" in started.err
    assert "expected a GGUF model" in started.err


def test_an_untrusted_project_does_not_start(project: CliProject) -> None:
    project.write()
    (project.state / "default-channel").write_text("current\n")
    refused = project.run("start")
    assert refused.code == 1
    assert "trust" in refused.err
    assert not project.processes()
    assert project.run_process("trust", "--yes").check()
    project.start()


def test_arguments_added_after_the_project_was_trusted_are_refused(project: CliProject) -> None:
    project.install()
    ini = project.state / "models.ini"
    ini.write_text(ini.read_text() + "extra_args = --chat-template evil\n")
    for command in ("start", "restart"):
        refused = project.run(command)
        assert (refused.code, "models.ini" in refused.err) == (1, True)
    assert not project.processes()


def test_restart_with_a_wrong_models_ini_keeps_the_stack_running(stack: CliProject) -> None:
    pid = stack.pid()
    ini = stack.state / "models.ini"
    right = ini.read_text()
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = lots"))
    assert stack.run("restart").code == 1
    assert (stack.pid(), is_router_up(stack)) == (pid, True)
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = 8k"))
    stack.run("restart").check()
    assert stack.pid() != pid
    assert {tier["ctx_size"] for tier in stack.status()["tiers"]} == {8192}


def test_restart_on_a_taken_port_keeps_the_stack_running(shared: CliProject) -> None:
    pid, port = shared.pid(), free_port()
    with listener(port):
        refused = shared.run("restart", "--port", str(port))
    assert refused.code == 1
    assert refused.err.startswith(f"error: port {port} is taken by ")
    assert (shared.pid(), is_router_up(shared)) == (pid, True)


def test_restart_on_a_network_address_without_a_key_keeps_the_stack_running(shared: CliProject) -> None:
    pid = shared.pid()
    refused = shared.run("restart", "--host", "0.0.0.0")  # noqa: S104 - it must be refused
    assert refused.err.startswith("error: host 0.0.0.0 is reachable from the network, and $LLMSTACK_API_KEY")
    assert (shared.pid(), is_router_up(shared)) == (pid, True)


def test_start_next_runs_the_queued_upgrade_and_restart_goes_back(project: CliProject) -> None:
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
        (["restart", "--next"], "next", "two.gguf"),
    ):
        project.run_process(*arguments).check()
        status = project.status()
        assert (status["channel"], status["tiers"][1]["model"]) == (channel, model)
        assert (project.state / "active-channel").read_text() == f"{channel}\n"
    refused = project.run("start")
    assert (refused.code, "restart" in refused.err) == (1, True)


def test_channel_next_without_queued_upgrades_is_an_error(project: CliProject) -> None:
    project.install()
    for arguments in (["start", "--next"], ["install", "--next"]):
        refused = project.run(*arguments)
        assert refused.code == 1
        assert "error: no tier has a queued upgrade" in refused.err
        assert "`hf_file_next`" in refused.err


@pytest.fixture
def foreground(project: CliProject) -> Iterator[Foreground]:
    project.install()
    process = project.popen("start", "--foreground")
    wait_until(lambda: is_router_up(project), timeout=20)
    yield project, process
    process.kill()
    process.communicate()


def test_a_foreground_stack_ends_on_sigterm(foreground: Foreground) -> None:
    project, process = foreground
    assert project.answer("hello") == "[code-ultra] You said: hello"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not project.processes()
    assert not (project.state / "router.pid").exists()


def test_the_stack_ends_if_its_foreground_process_is_killed(foreground: Foreground) -> None:
    project, process = foreground
    project.answer("hello")
    process.kill()
    wait_until(lambda: not project.processes(), timeout=10)


def test_status_json_has_the_documented_keys(stack: CliProject) -> None:
    stack.answer("hello")
    status = stack.status()
    assert {"work_dir", "channel", "router", "swapper", "tiers"} <= status.keys()
    assert {"url", "pid", "healthy", "uptime_s", "rss_mb"} <= status["router"].keys()
    tier_keys = {"name", "role", "backend", "model", "ctx_size", "state", "pid", "rss_mb"}
    assert all(tier_keys <= tier.keys() for tier in status["tiers"])
    states = {tier["name"]: tier["state"] for tier in status["tiers"]}
    assert states == {"code-fast": "resident", "code-smart": "idle", "code-ultra": "resident", "plan": "idle"}
    assert status["recent"][-1]["reason"] == "short: 1 <= 500 tokens"


def test_tiers_are_loaded_and_unloaded_by_hand(stack: CliProject) -> None:
    assert stack.run_process("load", "plan").check().err.endswith("plan is loaded\n")
    assert stack.run("unload", "plan").check().err.endswith("unloaded plan\n")
    assert stack.run("unload", "plan").check().err.endswith("nothing was loaded\n")
    refused = stack.run("load", "paln")
    assert (refused.code, refused.err.startswith("error: no tier is called `paln`")) == (1, True)


def test_the_model_servers_key_is_in_no_command_line_and_no_file(shared: CliProject) -> None:
    shared.answer("hello")
    model = next(
        process for process in shared.processes() if "llmstack.llama_cpp.bundled" in process.cmdline()
    )
    key = model.environ()["LLAMA_API_KEY"]
    assert len(key) > 30
    lines = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert lines
    assert not any(key in word for line in lines for word in line)
    files = [path for path in shared.state.rglob("*") if path.is_file()]
    assert not any(key.encode() in path.read_bytes() for path in files)


def test_every_port_refuses_requests_of_web_pages_and_without_a_key(shared: CliProject) -> None:
    shared.answer("hello")
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        for path in ("/models.ini", "/v1/models", "/llmstack/status", "/health"):
            assert httpx.get(shared.url + path, headers=headers).status_code == 403
        answer = httpx.post(f"{shared.url}/v1/chat/completions", headers=headers, json={"messages": []})
        assert answer.status_code == 403
    lines = [json.loads(path.read_text())["argv"] for path in shared.state.glob("model-*.pid")]
    assert len(lines) >= 2
    for line in lines:
        socket_path = line[line.index("--host") + 1]
        with httpx.Client(transport=httpx.HTTPTransport(uds=socket_path)) as client:
            for headers in ({}, {"host": "evil.example"}, {"origin": "https://evil.example"}):
                for method, path in (("GET", "/props"), ("GET", "/slots"), ("POST", "/v1/chat/completions")):
                    answer = client.request(method, f"http://localhost{path}", headers=headers, json={})
                    assert answer.status_code == 401
                    allowed = answer.headers.get("access-control-allow-origin")
                    assert allowed in {None, "", "http://127.0.0.1"}


def test_a_network_address_requires_a_key(project: CliProject) -> None:
    project.install()
    refused = project.run("start", "--host", "0.0.0.0")  # noqa: S104 - it must be refused
    assert refused.code == 1
    assert "LLMSTACK_API_KEY" in refused.err
    assert not project.processes()
    project.env["LLMSTACK_API_KEY"] = "planted-key"
    project.start("--host", "0.0.0.0")  # noqa: S104 - with a key
    assert httpx.get(f"{project.url}/models.ini").status_code == 401
    headers = {"authorization": "Bearer planted-key"}
    assert httpx.get(f"{project.url}/models.ini", headers=headers).status_code == 200
    assert project.status()["router"]["healthy"]
    del project.env["LLMSTACK_API_KEY"]  # the owner's commands need none
    assert project.status()["router"]["healthy"]
    assert project.run("ask", "hello").check().out.endswith("You said: hello\n")


def test_an_invalid_pid_file_is_an_error(project: CliProject) -> None:
    project.install()
    (project.state / "router.pid").write_text('{"pid": 1}')
    for command in ("start", "stop", "status"):
        refused = project.run(command)
        assert (refused.code, "router.pid" in refused.err) == (1, True)
    (project.state / "router.pid").unlink()


def test_a_pid_that_another_process_has_now_is_left_alone(project: CliProject) -> None:
    project.install()
    stale = {"pid": os.getpid(), "started": 1.0, "argv": [sys.executable], "port": project.port}
    (project.state / "router.pid").write_text(json.dumps(stale))
    assert project.run("stop").check().err == "nothing was running\n"
    assert psutil.pid_exists(os.getpid())
