"""Projects that use another project's router."""

from __future__ import annotations

import json
import re
import shutil
import time
from typing import TYPE_CHECKING

import httpx
import pytest
from support.hostile_router import answering
from support.net import free_port, listener
from support.project import CliProject

from llmstack.config.trusted import open_trusted
from llmstack.paths import Project, UserDirs
from llmstack.stack.mcp import list_tools

if TYPE_CHECKING:
    from pathlib import Path

    from support.project import CommandResult

pytestmark = pytest.mark.engine

KEY = "sesame-open"
TIERS = ["code-fast", "code-smart", "code-ultra", "plan"]


@pytest.fixture
def client(tmp_path: Path) -> CliProject:
    """A directory that is not a project yet."""
    client = CliProject(tmp_path / "client")
    client.directory.mkdir()
    return client


def error_line(result: CommandResult) -> str:
    """Return the one error line of a command that failed."""
    assert result.code == 1, result
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.err
    assert len(result.err.splitlines()) <= 2
    return errors[0]


def test_every_command_works_in_a_thin_client(stack: CliProject, client: CliProject) -> None:
    installed = client.run("install", "--external", stack.url).check()
    assert f"is set up for the router at {stack.url}" in installed.err
    assert (client.state / "default-channel").read_text() == f"external {stack.url}\n"
    assert not (client.state / "models.ini").exists()
    config = json.loads((client.state / "opencode.json").read_text())
    assert config["provider"]["llama.cpp"]["options"]["baseURL"] == f"{stack.url}/v1"
    assert set(config["provider"]["llama.cpp"]["models"]) == {
        "auto",
        "code-fast",
        "code-smart",
        "code-ultra",
        "plan",
    }

    for command in ("start", "restart"):
        message = client.run(command).check().err
        assert message.startswith(f"the router at {stack.url} answers; its tiers: auto, {', '.join(TIERS)}\n")
    status = client.status()
    assert status["channel"] == f"external {stack.url}"
    assert status["work_dir"] == str(client.directory)
    assert (status["router"]["healthy"], status["router"]["pid"]) == (True, None)
    assert [tier["name"] for tier in status["tiers"]] == TIERS
    assert "another project's, up" in client.run("status").check().out
    assert (
        client.run("stop").check().err == f"nothing to stop: the router at {stack.url} is another project's\n"
    )
    assert json.loads(client.run("check", "--json").check().out)["source"] == f"{stack.url}/models.ini"
    assert json.loads(client.run("route", "hello", "--json").check().out)["tier"] == "code-ultra"
    assert client.run("ask", "hello", "-m", "plan").check().out == "[plan] You said: hello\n"
    assert json.loads(client.run("ask", "hello", "--json").check().out)["model"] == "code-ultra"
    assert "no model is called `pln`" in error_line(client.run("ask", "hello", "-m", "pln"))
    client.env["OPENAI_BASE_URL"] = stack.url
    assert "is this router's own address" in client.run("ask", "hello", "-m", "openai/x").err
    client_project, user = Project.at(client.directory, client.env), UserDirs.from_env(client.env)
    offered_tools = {
        tool.name: tool for tool in list_tools(open_trusted(client_project, user), client.env, user)
    }
    assert {"tier_auto", *(f"tier_{name}" for name in TIERS)} <= offered_tools.keys()
    assert offered_tools["tier_plan"].open_model("").call("hello").output == "[plan] You said: hello"
    assert sorted(path.name for path in client.state.glob("*.pid")) == []

    ini = stack.state / "models.ini"
    ini.write_text(ini.read_text().replace("[plan]", "[design]"))
    stack.run("reload").check()
    assert "fetch it again: `llmstack reload`" in client.run("check").check().err
    assert "fetched again" in client.run("reload").check().err
    assert '"design"' in (client.state / "opencode.json").read_text()
    assert client.run("check").check().err == ""

    stack.run("stop").check()
    assert error_line(client.run("start")).startswith(f"error: nothing answers at {stack.url}: ")
    down = client.run("status")
    assert (down.code, len(down.out.splitlines()), down.err) == (1, 1, "")
    assert down.out.startswith(f"router   {stack.url}  nothing answers at ")
    assert error_line(client.run("reload"))
    assert error_line(client.run("ask", "hello")).startswith(f"error: nothing answers at {stack.url}")
    assert next(iter(list_tools(open_trusted(client_project, user), client.env, user))).name == "tier_auto"
    client.run("install", "--current", "--profile", "demo").check()  # and back
    assert (client.state / "default-channel").read_text() == "current\n"


@pytest.mark.parametrize(
    "command", ["setup", "download", "install-llama-swap", "promote", "load plan", "unload", "start --next"]
)
def test_commands_that_need_own_models_are_refused(client: CliProject, command: str) -> None:
    client.state.mkdir()
    (client.state / "default-channel").write_text("external http://127.0.0.1:1\n")
    client.trust()
    result = client.run(*command.split())
    assert result.code in {1, 2}
    assert "http://127.0.0.1:1" in result.err


def test_the_url_comes_from_the_option_the_pin_or_the_environment(
    stack: CliProject, client: CliProject
) -> None:
    client.env["LLMSTACK_REMOTE_URL"] = stack.url
    assert f"is set up for the router at {stack.url}\n" in client.run("install").check().err
    del client.env["LLMSTACK_REMOTE_URL"]
    assert (
        f"is set up for the router at {stack.url}\n" in client.run("install").check().err
    )  # the pin is kept
    printed = client.run("install", "--print").check().out
    assert printed == (client.state / "opencode.json").read_text()
    assert client.run("install", stack.url).code == 2
    assert client.run("install", "--external", "--next").code == 2
    assert (
        f"is set up for the router at {stack.url}\n"
        in client.run("install", f"--external={stack.url}").check().err
    )
    for wrong in ("ftp://x", "nonsense", "http://user:secret@127.0.0.1:1", "http://127.0.0.1:1/?key=secret"):
        assert "expected the address of a router" in error_line(client.run("install", "--external", wrong))


def test_install_writes_nothing_if_the_router_cannot_be_used(client: CliProject) -> None:
    assert error_line(client.run("install", "--external", f"http://127.0.0.1:{free_port()}"))
    assert not client.state.exists()


def test_a_server_that_is_no_router_is_an_error(client: CliProject) -> None:
    pages = (
        (b"<!doctype html><title>hi</title>", "with a web page"),
        (b'{"ok": true}', "no models.ini"),
        (b"\xff\xfe\x00" * 1000, "no models.ini"),
    )
    for body, message in pages:
        with answering({"/": body}) as url:
            assert message in error_line(client.run("install", "--external", url))
            client.state.mkdir(exist_ok=True)
            (client.state / "default-channel").write_text(f"external {url}\n")
            client.trust()
            assert "no llmstack router" in client.run("status").out
        shutil.rmtree(client.state)


def test_a_router_that_hangs_is_an_error_within_seconds(client: CliProject) -> None:
    with listener() as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        started_at = time.monotonic()
        assert "did not answer within" in error_line(client.run("install", "--external", url))
        assert time.monotonic() - started_at < 5


def test_a_foreign_router_cannot_choose_the_variable_with_its_key(client: CliProject) -> None:
    ini = (
        b"[DEFAULT]\napi_key_env = AWS_SECRET_ACCESS_KEY\n[m]\nrole = fast\nmodel = ollama/x\nctx_size = 8k\n"
    )
    with answering({"/": ini}) as url:
        client.run("install", "--external", url).check()
    text = (client.state / "opencode.json").read_text()
    assert "AWS" not in text
    assert re.findall(r'"apiKey": "(.*)"', text) == ["{env:LLMSTACK_API_KEY}"]


def test_an_untrusted_thin_client_sends_no_request(client: CliProject) -> None:
    connections = []
    client.state.mkdir()
    with listener() as server:
        server.settimeout(0.2)
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        (client.state / "default-channel").write_text(f"external {url}\n")
        for command in ("start", "restart", "reload", "run opencode"):
            assert "not trusted" in error_line(client.run(*command.split()))
            try:
                connections.append(server.accept())
            except TimeoutError:
                continue
    assert not connections


def test_a_router_on_the_network_requires_its_key_on_every_route(
    project: CliProject, client: CliProject
) -> None:
    """The second loopback address stands for another host on the network."""
    project.install(defaults="host = 0.0.0.0")
    bare = project.run("start", "--detach")
    assert "host 0.0.0.0 is reachable from the network, and $LLMSTACK_API_KEY is not set" in bare.err
    project.env["LLMSTACK_API_KEY"] = KEY
    project.start("--detach")
    url = f"http://127.0.0.2:{project.port}"
    for path in ("/models.ini", "/v1/models", "/llmstack/status", "/metrics"):
        assert httpx.get(url + path).status_code == 401, path
        assert httpx.get(url + path, headers={"authorization": "Bearer wrong"}).status_code == 401
        assert httpx.get(url + path, headers={"authorization": f"Bearer {KEY}"}).status_code == 200
        assert httpx.get(url + path, headers={"x-api-key": KEY}).status_code == 200

    key_error = "error: this router requires the key in $LLMSTACK_API_KEY"
    assert error_line(client.run("install", "--external", url)).startswith(key_error)
    client.env["LLMSTACK_API_KEY"] = "wrong"
    assert "does not know the key in this terminal" in error_line(client.run("install", "--external", url))
    client.env["LLMSTACK_API_KEY"] = KEY
    client.run("install", "--external", url).check()
    assert client.run("start").check()
    assert '"apiKey": "{env:LLMSTACK_API_KEY}"' in (client.state / "opencode.json").read_text()
    for file in [*client.state.rglob("*"), *project.state.rglob("*")]:
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file


@pytest.mark.opencode
@pytest.mark.skipif(shutil.which("opencode") is None, reason="opencode is not on PATH")
def test_opencode_in_a_thin_client_is_answered(project: CliProject, client: CliProject) -> None:
    project.env["LLMSTACK_API_KEY"] = client.env["LLMSTACK_API_KEY"] = KEY
    project.run("install", "--profile", "demo").check()
    ini = project.state / "models.ini"
    ports = f"router_port = {project.port}\nstart_port = {project.port + 1}\nthreads = 1\nhost = 0.0.0.0\n"
    ini.write_text(ini.read_text().replace("[DEFAULT]\n", f"[DEFAULT]\n{ports}"))
    project.run("install", "--trust").check()
    project.start()
    client.run("install", "--external", f"http://127.0.0.2:{project.port}").check()
    result = client.run_process("run", "opencode", "run", "say hi", timeout=100).check()
    assert 'You said: "say hi"' in result.out
