"""Starting and stopping, and everything that can come between."""

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
from llmstack.serving.kv.cache import LEAVE_S
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


def router_up(project: CliProject) -> bool:
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
    assert "  code-fast is resident" in started.err
    assert project.said("hello") == "[code-ultra] You said: hello"
    assert project.run_process("stop").check().err == "stopped\n"
    assert not project.processes()
    assert sorted(path.name for path in project.state.glob("*.pid")) == []
    assert not (project.state / "active-channel").exists()


def test_stop_waits_for_all_that_the_router_may_do_before_it_ends() -> None:
    requests = HttpLimits().drain_s + 2 * HttpLimits().cut_s
    assert requests + LEAVE_S + GRACE_S <= STOP_GRACE_S
    assert inspect.signature(stop).parameters["timeout"].default == STOP_GRACE_S


def test_start_twice_is_one_start(shared: CliProject) -> None:
    pid = shared.pid()
    again = shared.run("start").check()
    assert again.err == f"llmstack was running already at {shared.url} (pid {pid})\n"
    assert shared.pid() == pid


def test_start_elsewhere_than_it_runs_is_an_error(shared: CliProject) -> None:
    pid = shared.pid()
    for flag, value, has in (("host", "127.0.0.2", "127.0.0.1"), ("port", "1", shared.port)):
        again = shared.run("start", f"--{flag}", value)
        assert again.code == 1
        assert again.err == (
            f"error: the stack runs on {flag} {has}, not {value}\n"
            f"hint: move it with `llmstack restart --{flag} {value}`\n"
        )
    assert shared.pid() == pid


def test_two_starts_at_once_make_one_router(project: CliProject) -> None:
    project.install()
    both = [project.popen("start", "--detach") for _ in range(2)]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("already" in text for text in said) == [False, True]
    assert len([process for process in project.processes() if "llmstack.router" in process.cmdline()]) == 1


def test_start_from_a_second_project_names_the_owner(shared: CliProject, tmp_path: Path) -> None:
    second = CliProject(tmp_path / "second", port=shared.port)
    second.install()
    refused = second.run("start")
    assert refused.code == 1
    assert f"error: the router at {shared.url} belongs to {shared.directory}" in refused.err
    assert "hint: use it from here with `llmstack install --external`" in refused.err
    assert second.run("stop").check().err == "nothing was running\n"
    assert router_up(shared)


def test_stop_twice(stack: CliProject) -> None:
    assert stack.run("stop").check().err == "stopped\n"
    assert stack.run("stop").check().err == "nothing was running\n"


def test_stop_says_what_is_in_its_way(project: CliProject) -> None:
    project.install()
    marker = project.state / "active-channel"
    marker.mkdir()
    refused = project.run("stop")
    assert (refused.code, refused.err.split(":")[:2]) == (1, ["error", f" cannot remove {marker}"])
    marker.rmdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(project.state / "router.pid")  # who opened it would wait for a writer
        assert (
            project.run("stop").err
            == f"error: {project.state / 'router.pid'} is not a plain file\nhint: remove it\n"
        )
        (project.state / "router.pid").unlink()


def test_a_stop_that_is_interrupted_can_be_asked_for_again(stack: CliProject) -> None:
    os.kill(stack.pid(), signal.SIGSTOP)  # a router that hangs
    stopping = stack.popen("stop")
    wait_until(lambda: not (stack.state / "active-channel").exists(), timeout=20)
    stopping.send_signal(signal.SIGINT)
    stopping.communicate(timeout=20)
    assert stopping.returncode == 130
    assert "stopped" in stack.run("stop", "--timeout", "0").check().err
    assert not stack.processes()
    assert list(stack.state.glob("*.pid")) == []


def test_a_router_whose_pid_file_is_gone_is_named(stack: CliProject) -> None:
    pid_file = stack.state / "router.pid"
    noted, pid = pid_file.read_text(), stack.pid()
    pid_file.unlink()
    refused = stack.run("start")
    assert refused.code == 1
    assert f"a router of this project is at {stack.url} already, and its pid file is gone\n" in refused.err
    assert f"(pid {pid})" in refused.err or sys.platform != "linux"
    pid_file.write_text(noted)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("LOG_LEVEL", "banana", "the router ended: LOG_LEVEL: expected `debug`, `info`"),
        ("LLMSTACK_API_KEY", "two\nlines", "$LLMSTACK_API_KEY: expected a key of printable ASCII"),
    ],
)
def test_a_variable_that_is_nonsense_is_named(project: CliProject, name: str, value: str, said: str) -> None:
    project.install()
    project.env[name] = value
    refused = project.run_process("start")
    assert refused.code == 1
    assert f"error: {said}" in refused.err
    assert "Traceback" not in refused.err


def test_an_install_without_room_for_its_models_writes_nothing(project: CliProject) -> None:
    (project.directory.parent / "full").write_text("")
    project.env["XDG_DATA_HOME"] = str(project.directory.parent / "full")
    refused = project.run_process("install", "--profile", "demo")
    assert (refused.code, refused.err.split(":")[0]) == (1, "error")
    assert not (project.state / "models.ini").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_directory_whose_name_is_not_text_is_no_project(tmp_path: Path) -> None:
    odd = CliProject(tmp_path / "\udcff")
    odd.directory.mkdir()
    refused = odd.run("install", "--profile", "demo")
    assert refused.err == (
        f"error: cannot remember a name that is not UTF-8: {tmp_path}/\\udcff\nhint: rename it\n"
    )
    assert list(odd.directory.iterdir()) == []


def test_a_directory_whose_name_looks_like_markup(tmp_path: Path) -> None:
    odd = CliProject(tmp_path / "[bold] x[" / "b]")
    odd.write()
    asked = odd.run("install")
    assert (asked.code, f"{odd.state} has files" in asked.err) == (1, True)
    assert odd.run("trust", "--yes").check().err.endswith(f"{odd.directory} is trusted\n")
    assert odd.run("trust", "--revoke").check().err == f"{odd.directory} is not trusted any more\n"
    assert odd.run("trust", "--revoke").check().err == f"{odd.directory} was not trusted\n"


def test_stop_interrupts_a_slow_start(slow: CliProject) -> None:
    starting = slow.popen("start")
    wait_until((slow.state / "model-code-fast.pid").exists, timeout=20)
    assert slow.run("stop").check().err == "stopped\n"
    _, said = starting.communicate(timeout=20)
    assert starting.returncode == 1
    assert said.endswith("error: the stack was stopped while it was starting\n")
    assert not slow.processes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_who_ends_a_slow_start_leaves_nothing(slow: CliProject, number: int, code: int) -> None:
    starting = slow.popen("start")
    wait_until((slow.state / "model-code-fast.pid").exists, timeout=20)
    starting.send_signal(number)
    starting.communicate(timeout=20)
    assert starting.returncode == code
    assert not slow.processes()
    assert not (slow.state / "router.pid").exists()


def test_the_models_of_a_killed_router_end_by_themselves_and_start_works_again(stack: CliProject) -> None:
    stack.said("hello")
    models = [process for process in stack.processes() if "llmstack.llama_cpp.bundled" in process.cmdline()]
    assert len(models) == 2
    os.kill(stack.pid(), signal.SIGKILL)
    wait_until(lambda: not any(model.is_running() for model in models), timeout=5)
    down = stack.run("status")
    assert (down.code, "not running" in down.out) == (1, True)
    stack.start()
    assert stack.said("again") == "[code-ultra] You said: again"


def test_a_taken_port_is_named_with_its_owner(project: CliProject) -> None:
    project.install()
    with listener(project.port):
        refused = project.run("start")
    assert refused.code == 1
    owner = rf"error: port {project.port} is taken by {psutil.Process().name()} \(pid {os.getpid()}\)\n"
    assert re.search(owner, refused.err)
    assert "hint: stop that program, or set another `router_port` in models.ini\n" in refused.err
    assert not (project.state / "router.pid").exists()


def test_a_taken_model_port_is_stepped_over(project: CliProject) -> None:
    project.install()
    text = (project.state / "models.ini").read_text()
    first = int(re.search(r"start_port = (\d+)", text)[1])  # type: ignore[index]
    with listener(first):
        project.start()
        assert project.said("hello", "code-fast") == "[code-fast] You said: hello"


def test_five_mistakes_are_five_errors_with_lines(project: CliProject) -> None:
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


def test_a_missing_model_is_listed_and_the_rest_runs(project: CliProject) -> None:
    project.install(extra=f"[plan-b]\npath = {project.directory}/missing.gguf\n")
    started = project.run("start").check()
    missing = f"{project.directory}/missing.gguf is not on disk"
    assert f"warning: plan-b cannot start: {missing}" in started.err
    assert project.said("hello", "plan") == "[plan] You said: hello"
    refused = project.ask("hello", "plan-b")
    assert refused.status_code == 503
    assert missing in refused.json()["error"]["message"]
    assert project.status()["tiers"][-1]["state"] == "down"


def test_no_model_at_all_is_an_error(project: CliProject) -> None:
    project.install(tiers=("code-fast",))
    project.model("code-fast").unlink()
    refused = project.run("start")
    assert refused.code == 1
    assert refused.err.startswith("error: no tier can start:\n  code-fast: ")
    assert not (project.state / "router.pid").exists()


def test_a_corrupt_model_says_so_with_the_engines_own_words(project: CliProject) -> None:
    project.install()
    whole = project.model("plan").read_bytes()
    project.model("plan").write_bytes(whole[: len(whole) // 2])  # its header is fine, its tensors are cut
    project.start()
    refused = project.ask("hello", "plan")
    assert refused.status_code == 503
    message = refused.json()["error"]["message"]
    assert message.startswith("the model server of plan ended (exit code 1)")
    assert "failed to load model" in message
    status = project.run("status")
    assert status.code == 1
    assert "down" in status.out


def test_a_file_that_is_no_model_is_found_before_the_start(project: CliProject) -> None:
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


def test_a_program_named_after_the_trust_was_given_does_not_run(project: CliProject) -> None:
    project.install()
    ini = project.state / "models.ini"
    ini.write_text(ini.read_text() + "extra_args = --chat-template evil\n")
    for command in ("start", "restart"):
        refused = project.run(command)
        assert (refused.code, "models.ini" in refused.err) == (1, True)
    assert not project.processes()


def test_restart_keeps_what_runs_when_models_ini_is_wrong(stack: CliProject) -> None:
    pid = stack.pid()
    ini = stack.state / "models.ini"
    right = ini.read_text()
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = lots"))
    assert stack.run("restart").code == 1
    assert (stack.pid(), router_up(stack)) == (pid, True)
    ini.write_text(right.replace("ctx_size = 16k", "ctx_size = 8k"))
    stack.run("restart").check()
    assert stack.pid() != pid
    assert {tier["ctx_size"] for tier in stack.status()["tiers"]} == {8192}


def test_restart_keeps_what_runs_when_the_port_is_taken(shared: CliProject) -> None:
    pid, port = shared.pid(), free_port()
    with listener(port):
        refused = shared.run("restart", "--port", str(port))
    assert refused.code == 1
    assert refused.err.startswith(f"error: port {port} is taken by ")
    assert (shared.pid(), router_up(shared)) == (pid, True)


def test_restart_keeps_what_runs_when_it_would_be_open_to_the_network(shared: CliProject) -> None:
    pid = shared.pid()
    refused = shared.run("restart", "--host", "0.0.0.0")  # noqa: S104 - that it is refused is the point
    assert refused.err.startswith("error: host 0.0.0.0 is reachable from the network, and $LLMSTACK_API_KEY")
    assert (shared.pid(), router_up(shared)) == (pid, True)


def test_next_runs_the_queued_upgrade_and_restart_goes_back(project: CliProject) -> None:
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


def test_next_with_nothing_queued_is_an_error(project: CliProject) -> None:
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
    wait_until(lambda: router_up(project), timeout=20)
    yield project, process
    process.kill()
    process.communicate()


def test_foreground_ends_on_sigterm(foreground: Foreground) -> None:
    project, process = foreground
    assert project.said("hello") == "[code-ultra] You said: hello"
    process.terminate()
    process.communicate(timeout=20)
    assert process.returncode == 0
    assert not project.processes()
    assert not (project.state / "router.pid").exists()


def test_foreground_killed_takes_the_stack_along(foreground: Foreground) -> None:
    project, process = foreground
    project.said("hello")
    process.kill()
    wait_until(lambda: not project.processes(), timeout=10)


def test_status_json_has_the_promised_keys(stack: CliProject) -> None:
    stack.said("hello")
    status = stack.status()
    assert {"work_dir", "channel", "router", "swapper", "tiers"} <= status.keys()
    assert {"url", "pid", "healthy", "uptime_s", "rss_mb"} <= status["router"].keys()
    wanted = {"name", "role", "backend", "model", "ctx_size", "state", "pid", "rss_mb"}
    assert all(wanted <= tier.keys() for tier in status["tiers"])
    states = {tier["name"]: tier["state"] for tier in status["tiers"]}
    assert states == {"code-fast": "resident", "code-smart": "idle", "code-ultra": "resident", "plan": "idle"}
    assert status["recent"][-1]["reason"] == "short: 1 <= 500 tokens"


def test_load_and_unload(stack: CliProject) -> None:
    assert stack.run_process("load", "plan").check().err.endswith("plan is resident\n")
    assert stack.run("unload", "plan").check().err.endswith("unloaded plan\n")
    assert stack.run("unload", "plan").check().err.endswith("nothing was resident\n")
    refused = stack.run("load", "paln")
    assert (refused.code, refused.err.startswith("error: no tier is called `paln`")) == (1, True)


def test_no_key_in_any_command_line_or_file(shared: CliProject) -> None:
    shared.said("hello")
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


def test_every_port_refuses_strangers(shared: CliProject) -> None:
    shared.said("hello")
    for headers in ({"host": "evil.example"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        for path in ("/models.ini", "/v1/models", "/llmstack/status", "/health"):
            assert httpx.get(shared.url + path, headers=headers).status_code == 403
        answer = httpx.post(f"{shared.url}/v1/chat/completions", headers=headers, json={"messages": []})
        assert answer.status_code == 403
    ports = [json.loads(path.read_text())["port"] for path in shared.state.glob("model-*.pid")]
    assert len(ports) >= 2
    for port in ports:
        for headers in ({}, {"host": "evil.example"}, {"origin": "https://evil.example"}):
            for method, path in (("GET", "/props"), ("GET", "/slots"), ("POST", "/v1/chat/completions")):
                answer = httpx.request(method, f"http://127.0.0.1:{port}{path}", headers=headers, json={})
                assert answer.status_code == 401
                assert answer.headers.get("access-control-allow-origin") in {None, "", "http://127.0.0.1"}


def test_beyond_loopback_it_wants_a_key(project: CliProject) -> None:
    project.install()
    refused = project.run("start", "--host", "0.0.0.0")  # noqa: S104 - that it is refused is the point
    assert refused.code == 1
    assert "LLMSTACK_API_KEY" in refused.err
    assert not project.processes()
    project.env["LLMSTACK_API_KEY"] = "planted-key"
    project.start("--host", "0.0.0.0")  # noqa: S104 - with a key
    assert httpx.get(f"{project.url}/models.ini").status_code == 401
    headers = {"authorization": "Bearer planted-key"}
    assert httpx.get(f"{project.url}/models.ini", headers=headers).status_code == 200
    assert project.status()["router"]["healthy"]
    del project.env["LLMSTACK_API_KEY"]
    assert "wants the key of $LLMSTACK_API_KEY" in project.run("status").out
    assert "llmstack start" not in project.run("status").err
    assert project.run("ask", "hello").err.endswith(
        "hint: export that variable with the key that the router was started with\n"
    )


def test_nonsense_in_a_pid_file_is_an_error_not_a_signal(project: CliProject) -> None:
    project.install()
    (project.state / "router.pid").write_text('{"pid": 1}')
    for command in ("start", "stop", "status"):
        refused = project.run(command)
        assert (refused.code, "router.pid" in refused.err) == (1, True)
    (project.state / "router.pid").unlink()


def test_a_pid_that_was_used_again_is_nobody(project: CliProject) -> None:
    project.install()
    stale = {"pid": os.getpid(), "started": 1.0, "argv": [sys.executable], "port": project.port}
    (project.state / "router.pid").write_text(json.dumps(stale))
    assert project.run("stop").check().err == "nothing was running\n"
    assert psutil.pid_exists(os.getpid())
