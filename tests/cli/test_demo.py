"""`llmstack demo`: the first thing a newcomer sees."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import httpx
import pytest
from support.project import CliProject

from llmstack.stack.demo.demo import demo
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
    project.env["TMPDIR"] = str(tmp_path)  # so that what it leaves would be found
    return project


def test_demo_answers_every_path_by_the_tier_the_policy_names(here: CliProject) -> None:
    shown = json.loads(here.run_process("demo", "--json", timeout=110).check().out)
    assert shown["ok"] is True
    assert (shown["swapper"], shown["engine"]) == ("builtin", "bundled")
    for row, (name, tier, reason) in zip(shown["requests"], EXPECTED, strict=True):
        assert (row["request"], row["tier"], row["expected"], row["status"]) == (name, tier, tier, 200)
        assert re.fullmatch(reason, row["reason"])
        assert row["ttft_ms"] > 0
        assert row["tokens_per_s"] > 0
        assert tier in row["resident"]
        assert len(row["resident"]) == 2  # what the demo's budget holds
    said = {row["request"]: row["answer"] for row in shown["requests"]}
    assert said["short"] == "[code-ultra] You said: What is the capital of France?"
    assert said["tool call"].startswith('get_weather({"city"')
    assert here.processes() == []
    assert list(here.directory.iterdir()) == []


def test_a_failed_demo_keeps_nothing_and_says_for_each_request_what_failed(here: CliProject) -> None:
    here.env["LLAMA_SERVER_BIN"] = "/bin/false"
    shown = here.run_process("demo", "--keep", "--json")
    assert shown.code == 1
    failed = json.loads(shown.out)
    assert failed["ok"] is False
    assert [row["request"] for row in failed["requests"] if "ended (exit code 1)" not in row["answer"]] == []
    assert here.processes() == []


def test_demo_keep_says_how_to_talk_to_it(here: CliProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "demo_requests", lambda: demo_requests()[:1])
    shown = here.run("demo", "--keep").check()
    url = re.search(r"The stack runs at (http://127\.0\.0\.1:\d+)", shown.out)
    work_dir = re.search(r"^  cd (\S+) && llmstack stop$", shown.out, re.MULTILINE)
    assert url
    assert work_dir
    here.env["LLMSTACK_WORK_DIR"] = work_dir[1]
    try:
        assert httpx.get(f"{url[1]}/v1/models").json()["data"][0]["id"] == "auto"
    finally:
        assert here.run("stop").check().err == "stopped\n"
    assert here.processes() == []
