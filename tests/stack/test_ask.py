"""`llmstack ask`: send one prompt to a tier or to a provider's model."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.net import free_port
from support.project import CliProject
from support.providers import KEY, provider

from llmstack.config.trusted import open_trusted
from llmstack.paths import Project, UserDirs
from llmstack.stack.mcp import list_tools

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def here(tmp_path: Path) -> Iterator[CliProject]:
    """A directory without a project."""
    project = CliProject(tmp_path / "here")
    project.directory.mkdir()
    yield project
    project.close()


def test_a_providers_model_can_be_asked_without_a_project(here: CliProject) -> None:
    with provider("anthropic") as fake:
        here.env |= {"ANTHROPIC_BASE_URL": fake.url, "ANTHROPIC_API_KEY": KEY}
        result = here.run(
            "ask", "-m", "anthropic/sonnet", "-s", "Be brief.", "long", "--max-tokens", "9"
        ).check()
        assert result.out == "You said: long.\n"
        assert result.err.startswith("warning: the answer was cut off at 9 tokens")
        assert fake.last["system"] == [{"type": "text", "text": "Be brief."}]
        document = json.loads(here.run("ask", "-m", "anthropic/haiku", "hello", "--json").check().out)
        assert document == {
            "output": "You said: hello.",
            "model": "claude-haiku-4-5-20251001",
            "provider": "anthropic",
            "tokens_used": {"input": 30, "output": 7},
            "stop_reason": "stop",
        }
        refused = here.run("ask", "-m", "anthropic/haiku", "error 401")
        assert (refused.code, KEY in refused.err) == (1, False)
        assert refused.err == (
            "error: anthropic/claude-haiku-4-5-20251001 answered 401: Incorrect API key provided: …\n"
            "hint: check ANTHROPIC_API_KEY in the environment\n"
        )


def test_piped_input_follows_the_prompt(here: CliProject) -> None:
    with provider("local") as fake:
        process = subprocess.run(
            [sys.executable, "-m", "llmstack", "ask", "-m", "vllm/x", "sum up:"],
            input="a file\n",
            env=here.env | {"VLLM_BASE_URL": fake.url},
            cwd=here.directory,
            capture_output=True,
            text=True,
            check=True,
        )
        assert process.stdout == "You said: sum up:\n\na file.\n"


def test_a_server_that_does_not_run_is_an_error_with_a_hint(here: CliProject) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    here.env["OLLAMA_BASE_URL"] = url
    failed = here.run("ask", "-m", "ollama/x", "hello")
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == (
        f"error: nothing answers at {url}/v1 (from OLLAMA_BASE_URL)\n"
        "hint: start Ollama there, or set OLLAMA_BASE_URL to where it is\n"
    )
    assert here.run("ask").code == 2
    assert here.run("ask", "hello").err.startswith("error: the stack is not running\n")


def test_an_untrusted_project_cannot_redirect_prompts(here: CliProject) -> None:
    (here.directory / ".llmstack").mkdir()
    (here.directory / ".llmstack" / "default-channel").write_text("external http://127.0.0.1:9\n")
    here.env["LLMSTACK_API_KEY"] = KEY
    refused = here.run("ask", "hello")
    assert (refused.code, "llmstack trust" in refused.err, "127.0.0.1:9" in refused.err) == (1, True, False)


@pytest.mark.engine
def test_a_tier_of_the_running_stack_answers(stack: CliProject) -> None:
    result = stack.run("ask", "-m", "plan", "hello there").check()
    assert result.out == "[plan] You said: hello there\n"
    answer = json.loads(stack.run("ask", "hello there", "--json").check().out)
    assert answer["provider"] == "llmstack"
    assert answer["tokens_used"]["output"] > 0
    project, user = Project.at(stack.directory, stack.env), UserDirs.from_env(stack.env)
    tools = {tool.name: tool for tool in list_tools(open_trusted(project, user), stack.env, user)}
    assert {"tier_auto", "tier_code-fast", "tier_plan", "provider_ollama"} <= tools.keys()
    assert tools["tier_plan"].open_model("").call("hello there").output == "[plan] You said: hello there"
    unknown = stack.run("ask", "-m", "pln", "hello")
    assert unknown.err.startswith("error: no tier is called `pln`\nhint: there are auto, code-fast, ")
    stack.env["OPENAI_BASE_URL"] = stack.url
    own = stack.run("ask", "-m", "openai/x", "hello")
    assert own.err.startswith(f"error: {stack.url} (from OPENAI_BASE_URL) is this router's own address")
