"""Routers that are hostile: every command ends with a clear error, and sends no key elsewhere."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hostile.hostile_routers import SILENT, TRICKLE, HostileRouter, hostile_router
from hostile.router_answers import CASES, ELSEWHERE, EVERYTHING, INI
from support.project import CliProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hostile.router_answers import Case
    from support.project import CommandResult

KEY = "sesame-open"
OTHER_SECRET = "aws-secret-5d41"
DEADLINE_S = 8.0  # of a command: 3 s for an answer, and this machine may be busy
# They fetch a router's models.ini in the same way: one of them for each case is enough.
FETCHING = (("install",), ("start",), ("check",), ("reload",))
OTHERS = (("status",), ("ask", "hello"), ("route", "hello"))


@pytest.fixture(scope="module")
def routers() -> Iterator[tuple[HostileRouter, HostileRouter]]:
    """The hostile router, and the other host that it points to."""
    with hostile_router() as router, hostile_router() as elsewhere:
        yield router, elsewhere


@pytest.fixture
def client(tmp_path: Path, routers: tuple[HostileRouter, HostileRouter]) -> CliProject:
    """A thin client of the hostile router, which its owner trusts."""
    client = CliProject(tmp_path / "client")
    client.state.mkdir(parents=True)
    (client.state / "default-channel").write_text(f"external {routers[0].url}\n")
    (client.state / "opencode.json").write_text("{}\n")
    client.env["LLMSTACK_API_KEY"] = KEY
    client.env["AWS_SECRET_ACCESS_KEY"] = OTHER_SECRET
    client.env["PATH"] = "/usr/bin:/bin"  # no agent that `run` could start
    client.run("trust", "--yes").check()
    return client


def set_answers(case: Case, router: HostileRouter, elsewhere: HostileRouter, marker: Path) -> None:
    router.pretend()
    router.requests.clear()
    elsewhere.requests.clear()
    if EVERYTHING in case.answers:
        router.answers.clear()
    for path, answer in case.answers.items():
        touch = f"/usr/bin/touch {marker}".encode()
        router.answers[path] = answer.replace(ELSEWHERE, elsewhere.url.encode()).replace(b"(touch)", touch)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_holds(case: Case, client: CliProject, routers: tuple[HostileRouter, HostileRouter]) -> None:
    router, elsewhere = routers
    marker = client.directory.parent / "ran"
    set_answers(case, router, elsewhere, marker)
    for command in commands_for(case):
        started_at = time.monotonic()
        result = client.run(*command)
        assert time.monotonic() - started_at < DEADLINE_S, command
        require_clear_result(command[0], result, works=case.works)
    assert not marker.exists(), "a command of the router ran"
    assert elsewhere.requests == []
    sent = b"".join(router.requests)
    assert OTHER_SECRET.encode() not in sent
    require_no_secret_in_files(client)


def commands_for(case: Case) -> tuple[tuple[str, ...], ...]:
    """Return the commands to run; those that would wait for a slow router are left out."""
    if INI in case.answers:
        return (*FETCHING, ("status",))
    fetching = FETCHING[CASES.index(case) % len(FETCHING)]
    is_slow = case.answers[EVERYTHING].startswith((SILENT, TRICKLE))
    return (fetching,) if is_slow else (fetching, *OTHERS)


def require_clear_result(name: str, result: CommandResult, *, works: bool) -> None:
    """Verify that a command that failed says why in one error."""
    output = result.out + result.err
    assert "Traceback" not in output, output
    assert OTHER_SECRET not in output
    assert KEY not in output
    if result.code == 0:
        assert works or name == "status", (name, output)
        return
    assert result.code == 1, (name, output)
    assert name == "status" or any(line.startswith("error: ") for line in result.err.splitlines()), output


def require_no_secret_in_files(client: CliProject) -> None:
    """Verify that opencode.json has nothing that opencode would run, read, replace or send elsewhere."""
    text = (client.state / "opencode.json").read_text()
    for word in (KEY, OTHER_SECRET, "{env:AWS", "{file:", "touch", "evil.example", '"mcp"', '"command"'):
        assert word not in text, text


def test_there_are_as_many_cases_as_were_tried_by_hand() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 27
