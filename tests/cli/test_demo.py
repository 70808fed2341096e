"""`llmstack demo`, the first command that a new user runs."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from support.project import CliProject

from llmstack.stack.demo import demo
from llmstack.stack.demo.requests import demo_requests

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.engine

EXPECTED = [
    ("short", "code-ultra", r"short: \d+ <= \d+ tokens"),
    ("trigger", "code-ultra", r"trigger \[ultra\]"),
    ("mid", "code-smart", r"mid: \d+ <= \d+ tokens"),
    ("long", "code-fast", r"long: \d+ > \d+ tokens"),
    ("long, ten turns", "code-smart", r"long: \d+ > \d+ tokens, 10 >= 10 user turns"),
    ("explicit tier", "code-fast", "named"),
    ("alias", "code-smart", "named: alias agent"),
    ("plan", "plan", "named"),
    ("streaming", "code-ultra", r"short: \d+ <= \d+ tokens"),
    ("tool call", "code-ultra", r"short: \d+ <= \d+ tokens"),
]


@pytest.fixture
def here(tmp_path: Path) -> CliProject:
    project = CliProject(tmp_path / "empty")
    project.directory.mkdir()
    project.env["LLMSTACK_MODELS_INI"] = str(tmp_path / "other.ini")
    project.env["TMPDIR"] = str(tmp_path)  # so that leftovers are found
    return project


def test_every_demo_request_is_answered_by_the_expected_tier(here: CliProject) -> None:
    result = json.loads(here.run_process("demo", "--json", timeout=110).check().out)
    assert result["ok"] is True
    assert (result["swapper"], result["engine"]) == ("builtin", "bundled")
    for row, (name, tier, reason) in zip(result["requests"], EXPECTED, strict=True):
        assert (row["request"], row["tier"], row["expected"], row["status"]) == (name, tier, tier, 200)
        assert re.fullmatch(reason, row["reason"])
        assert row["ttft_ms"] > 0
        assert row["tokens_per_s"] > 0
        assert tier in row["resident"]
        assert len(row["resident"]) == 2  # what the demo's budget holds
    answers = {row["request"]: row["answer"] for row in result["requests"]}
    assert answers["short"] == "[code-ultra] You said: What is the capital of France?"
    assert answers["tool call"].startswith('get_weather({"city"')
    assert here.processes() == []
    assert list(here.directory.iterdir()) == []


def test_a_failed_demo_leaves_nothing_and_reports_each_error(here: CliProject) -> None:
    here.env["LLAMA_SERVER_BIN"] = "/bin/false"
    ran = here.run_process("demo", "--keep", "--json")
    assert ran.code == 1
    failed = json.loads(ran.out)
    assert failed["ok"] is False
    assert [row["request"] for row in failed["requests"] if "ended (exit code 1)" not in row["answer"]] == []
    assert here.processes() == []


def test_demo_keep_prints_how_to_use_and_stop_the_stack(
    here: CliProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "demo_requests", lambda: demo_requests()[:1])
    ran = here.run("demo", "--keep").check()
    url = re.search(r"The stack runs at (http://127\.0\.0\.1:\d+)", ran.out)
    work_dir = re.search(r"^  cd (\S+) && llmstack stop$", ran.out, re.MULTILINE)
    assert url
    assert work_dir
    here.env["LLMSTACK_WORK_DIR"] = work_dir[1]
    try:
        assert httpx.get(f"{url[1]}/v1/models").json()["data"][0]["id"] == "auto"
    finally:
        assert here.run("stop").check().err == "stopped\n"
    assert here.processes() == []
