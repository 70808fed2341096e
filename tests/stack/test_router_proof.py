"""A router proves itself before a command tells it a secret or a prompt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from support.project import CliProject
from support.recorder import recorder
from support.stranger import needs_root, program_of_stranger
from support.waiting import wait_until

from llmstack.router_proof import (
    RouterIdentity,
    is_nonce,
    is_same_proof,
    new_nonce,
    new_token,
    prove_key,
    prove_token,
    stretch_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = "key-of-the-user-7f3a"
PROMPT = "prompt-of-the-user-51c2"
# What another user runs: it answers everything with 200, and passes challenges on to the real router if told.
IMPOSTOR = """
port, relay = int(sys.argv[1]), sys.argv[2]
class Page(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        print(self.path, self.headers.items(), body)
        answer = b'{"token": "00", "key": "00", "tiers": [], "work_dir": "/x"}'
        if relay and "challenge" in self.path:
            connection = http.client.HTTPConnection("127.0.0.1", int(relay))
            connection.request("GET", self.path)
            answer = connection.getresponse().read()
        self.send_response(200)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", port), Page).serve_forever()
"""


@pytest.fixture
def project(tmp_path: Path) -> Iterator[CliProject]:
    project = CliProject(tmp_path / "project")
    project.directory.mkdir()
    project.env["LLMSTACK_API_KEY"] = KEY
    yield project
    project.close()


@contextmanager
def impostor(port: int, log: Path, relay: int | None = None) -> Iterator[None]:
    """Let another user listen on a port, and write to `log` what it is sent."""
    with program_of_stranger(IMPOSTOR, str(port), str(relay or ""), output=log):
        wait_until(lambda: _answers(port), timeout=20)
        yield


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/").is_success
    except httpx.HTTPError:
        return False


@needs_root
def test_a_start_tells_nothing_to_another_user_who_took_the_port(project: CliProject, tmp_path: Path) -> None:
    project.install(tiers=("code-fast",))
    log = tmp_path / "log"
    with impostor(project.port, log):
        result = project.run("start")
    assert result.code == 1
    assert KEY not in log.read_text()


@needs_root
@pytest.mark.engine
@pytest.mark.parametrize("relayed", [False, True], ids=["alone", "with a relay to the real router"])
def test_commands_tell_nothing_to_another_user_who_took_the_port(
    project: CliProject,
    tmp_path: Path,
    relayed: bool,  # noqa: FBT001
) -> None:
    """The real router runs elsewhere, and the pid file leads to the impostor."""
    project.install(tiers=("code-fast",))
    project.start("--detach")
    fake = CliProject(tmp_path / "other").port
    pid_file = project.state / "router.pid"
    text = pid_file.read_text()
    log = tmp_path / "log"
    with impostor(fake, log, project.port if relayed else None):
        pid_file.write_text(text.replace(f'"port": {project.port}', f'"port": {fake}'))
        for command in ("status", f"route {PROMPT}", f"ask {PROMPT}", "load code-fast", "unload", "reload"):
            result = project.run(*command.split())
            assert result.code == 1, command
            assert "is not this project's router" in result.err + result.out, command
    pid_file.write_text(text)
    seen = log.read_text()
    assert "/llmstack/challenge" in seen
    for secret in (KEY, PROMPT, project.private.router_token.read_text().strip()):
        assert secret not in seen
    assert project.run("status").code == 0


@pytest.mark.engine
def test_a_remote_router_gets_the_key_only_if_it_knows_it(project: CliProject, tmp_path: Path) -> None:
    project.install(tiers=("code-fast",))
    project.start("--detach")
    client = CliProject(tmp_path / "client")
    client.directory.mkdir()
    client.env["LLMSTACK_API_KEY"] = KEY
    client.run("install", "--external", project.url).check()
    client.run("status").check()
    client.env["LLMSTACK_API_KEY"] = "another-key-33bb"
    result = client.run("check")
    assert result.code == 1
    assert "does not know the key in this terminal, so it was not sent" in result.err
    for answer in (b'{"token": "00", "key": "00"}', b'{"token": null, "key": null}', b"{}", b"[]"):
        with recorder(answer=answer) as fake:
            (client.state / "default-channel").write_text(f"external {fake.url}\n")
            client.trust()
            for command in ("status", "check", "reload"):
                client.run(*command.split())
            assert b"/llmstack/challenge" in fake.all_bytes
            assert b"another-key-33bb" not in fake.all_bytes
    with recorder() as fake:  # it claims to know the key, and does not
        (client.state / "default-channel").write_text(f"external {fake.url}\n")
        client.trust()
        for command in (f"route {PROMPT}", f"ask {PROMPT}"):
            assert client.run(*command.split()).code == 1
        assert PROMPT.encode() not in fake.all_bytes


def test_a_proof_holds_for_its_secret_nonce_and_port_only() -> None:
    nonce, token = new_nonce(), new_token()
    identity = RouterIdentity(token, 10101, stretch_key(KEY))
    answer = identity.answer(nonce)
    assert is_same_proof(prove_token(token, nonce, 10101), answer["token"])
    assert is_same_proof(prove_key(stretch_key(KEY), nonce), answer["key"])
    for wrong in (
        prove_token(new_token(), nonce, 10101),
        prove_token(token, new_nonce(), 10101),
        prove_token(token, nonce, 10102),
        prove_key(stretch_key(KEY), nonce),
        None,
        7,
    ):
        assert not is_same_proof(prove_token(token, nonce, 10101), wrong)
    assert RouterIdentity(token, 1, None).answer(nonce)["key"] is None
    assert is_nonce(nonce)
    assert not any(map(is_nonce, ("", nonce[1:], f"{nonce}0", nonce.upper().replace("0", "G"), "é" * 64)))
