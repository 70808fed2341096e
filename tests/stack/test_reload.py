"""Edit models.ini while the stack runs."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from support.waiting import wait_until

from llmstack.llama_cpp.tiny import write_echo, write_random

if TYPE_CHECKING:
    from support.project import CliProject

pytestmark = pytest.mark.engine


def edit_models_ini(project: CliProject, old: str, new: str) -> None:
    ini = project.state / "models.ini"
    text = ini.read_text()
    assert old in text
    ini.write_text(text.replace(old, new))


def tier_pids(project: CliProject) -> dict[str, int | None]:
    return {tier["name"]: tier["pid"] for tier in project.status()["tiers"]}


class Stream(threading.Thread):
    """A client that reads a long answer; `is_complete` tells whether all of it arrived."""

    def __init__(self, project: CliProject, model: str, tokens: int) -> None:
        super().__init__()
        self.url = f"{project.url}/v1/chat/completions"
        message = {"role": "user", "content": "talk"}
        self.body = {"model": model, "messages": [message], "stream": True}
        self.body |= {"max_tokens": tokens, "ignore_eos": True}
        self.has_begun = threading.Event()
        self.events: list[dict[str, Any]] = []

    def run(self) -> None:
        with httpx.stream("POST", self.url, json=self.body, timeout=100) as response:
            for line in response.iter_lines():
                if line.startswith("data: {"):
                    self.events.append(json.loads(line.removeprefix("data: ")))
                    self.has_begun.set()

    @property
    def is_complete(self) -> bool:
        finished = [choice["finish_reason"] for event in self.events for choice in event.get("choices", [])]
        return finished[-1] == "length" and not any("error" in event for event in self.events)


def test_reload_under_load_drops_no_request_and_keeps_unchanged_tiers_loaded(project: CliProject) -> None:
    names = ("one", "two", "three")
    project.write(tiers=("code-fast",))
    text = (project.state / "models.ini").read_text()
    for seed, name in enumerate(names):
        write_random(project.model(name), dim=256, layers=6, seed=seed)
        text += f"[{name}]\npath = {project.model(name)}\ndescription = {name}\n"
    (project.state / "models.ini").write_text(text)
    project.run("install", "--trust").check()
    project.start()
    # `two` must outlast the reload, even on a busy machine
    streams = [Stream(project, name, 3000 if name == "two" else 300) for name in names]
    for stream in streams:
        stream.start()
    for stream in streams:
        assert stream.has_begun.wait(30)
    before = tier_pids(project)
    edit_models_ini(project, "description = two\n", "description = two\nctx_size = 8k\n")
    edit_models_ini(project, "description = three\n", "description = three\nttl = 1h\n")
    assert "changed: two, three" in project.run("reload").check().err
    assert streams[1].is_alive()  # otherwise the test would prove nothing
    later = Stream(project, "two", 5)
    later.start()
    for stream in [*streams, later]:
        stream.join(100)
        assert stream.is_complete
    after = tier_pids(project)
    assert {name for name in after if after[name] != before[name]} == {"two"}
    ctx = {tier["name"]: tier["ctx_size"] for tier in project.status()["tiers"]}
    assert (ctx["two"], ctx["one"]) == (8192, 16384)
    outcomes = {record["outcome"] for record in project.status()["recent"]}
    assert outcomes == {"ok"}


def test_reload_of_a_wrong_file_changes_nothing(stack: CliProject) -> None:
    stack.answer("hello")
    before = tier_pids(stack)
    edit_models_ini(stack, "ctx_size = 16k", "ctx_size = lots")
    refused = stack.run("reload")
    assert refused.code == 1
    assert "ctx_size: expected a size, got `lots`" in refused.err
    edit_models_ini(stack, "ctx_size = lots", "ctx_size = 16k")
    assert tier_pids(stack) == before
    assert stack.answer("hello") == "[code-ultra] You said: hello"


def test_reload_refuses_a_change_that_needs_a_restart(stack: CliProject) -> None:
    edit_models_ini(stack, "ctx_size = 16k", "ctx_size = 16k\nallowed_hosts = localhost")
    stack.run("trust", "--yes").check()
    refused = stack.run("reload")
    assert refused.code == 1
    assert "[DEFAULT] allowed_hosts: changed, but read only at the start" in refused.err
    assert "llmstack restart" in refused.err


def test_reload_adds_and_removes_tiers(stack: CliProject) -> None:
    assert stack.answer("hello", "plan") == "[plan] You said: hello"
    write_echo(stack.model("review"), speaker="review")
    edit_models_ini(
        stack,
        f"[plan]\nrole = plan\npath = {stack.model('plan')}",
        f"[review]\npath = {stack.model('review')}",
    )
    assert "changed: plan, review" in stack.run_process("reload").check().err
    assert stack.answer("hello", "review") == "[review] You said: hello"
    assert stack.ask("hello", "plan").status_code == 404
    wait_until(lambda: not (stack.state / "model-plan.pid").exists(), timeout=10)
    config = json.loads((stack.state / "opencode.json").read_text())
    assert "review" in config["provider"]["llama.cpp"]["models"]


def test_reload_needs_a_running_stack_and_a_trusted_project(project: CliProject) -> None:
    project.install()
    refused = project.run("reload")
    assert (refused.code, "the stack is not running" in refused.err) == (1, True)
    edit_models_ini(project, "ctx_size = 16k", "ctx_size = 16k\nallowed_hosts = evil.example")
    refused = project.run("reload")
    assert (refused.code, "trust" in refused.err) == (1, True)


def test_promote_makes_queued_upgrades_permanent(project: CliProject) -> None:
    cache = project.directory.parent / "hub"
    snapshot = cache / "models--org--m" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    project.env["HF_HUB_CACHE"] = str(cache)
    project.write(tiers=("code-fast",))
    for name in ("one", "two"):
        (snapshot / f"{name}.gguf").write_bytes(project.model("code-fast").read_bytes())
    queued = """
[q]
role = agent
hf_repo = org/m
hf_file = one.gguf        ; the one that works
size_gb = 1
hf_file_next = two.gguf   ; to be tried
quant_next = Q8_0
"""
    ini = project.state / "models.ini"
    before = ini.read_text()
    ini.write_text(before + queued)
    project.run("install", "--trust").check()
    refused = project.run("promote", "code-fast")
    assert (refused.code, "`code-fast` has no queued upgrade; tiers with one: q" in refused.err) == (1, True)
    project.start()
    done = project.run_process("promote").check()
    assert done.err == "q: two.gguf replaces one.gguf\nnext: `llmstack restart`\n"
    assert (
        ini.read_text()
        == before
        + """
[q]
quant = Q8_0
role = agent
hf_repo = org/m
hf_file = two.gguf        ; the one that works
"""
    )
    project.run("restart").check()  # still trusted
    assert project.status()["tiers"][1]["model"] == "two.gguf"
    assert "no tier has a queued upgrade" in project.run("promote").err
