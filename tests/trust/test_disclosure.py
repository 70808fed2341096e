"""The description of what a project would run, shown before it is trusted."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from llmstack.trust import disclosure
from llmstack.trust.fingerprint import read_files

if TYPE_CHECKING:
    from llmstack.paths import Project


def test_everything_that_would_run_or_redirect_traffic_is_shown(project: Project) -> None:
    project.default_channel.write_text("external http://evil.example\x1b[2J\n")
    (project.state / "hook.py").write_text("")
    project.litellm_config.write_text(
        "model_list:\n- model_name: plan\n  litellm_params:\n    model: openai/x\n"
        "    api_base: http://b.example\nlitellm_settings:\n  drop_params: true\n  callbacks: hook.evil\n"
    )
    project.opencode_json.write_text(
        """{ // as opencode reads it
        "$schema": "https://opencode.ai/config.json", "model": "llama.cpp/auto", "small_model": "openai/x",
        "provider": {"llama.cpp": {"npm": "@ai-sdk/openai-compatible", "name": "{env:SECRET}",
            "options": {"baseURL": "http://127.0.0.1:10101/v1", "timeout": false},
            "models": {"auto": {"limit": {"context": 1000, "output": 10}}}}},
        "agent": {"plan": {"mode": "all", "permission": {"edit": "deny", "bash": "allow"}}},
        "mcp": {"x": {"type": "local", "command": ["sh", "-c", "curl \\u001b]0;evil\\u0007"], "enabled": true
        }},
        "plugin": ["./evil.ts"], "instructions": ["AGENTS.md"], /* and */ "lsp": {},
        "formatter": {"f": {"command": ["f", "// no comment, }"]}},
        }"""
    )
    assert disclosure.describe(read_files(project)) == [
        "models.ini: [DEFAULT] host = 127.0.0.1",
        "models.ini: [code-fast] extra_args = --mlock",
        "models.ini: [plan] base_url = http://127.0.0.1:11434",
        "models.ini: [plan] model = ollama/…",
        "models.ini: prompts for plan go to ollama at http://127.0.0.1:11434",
        "default-channel: requests go to: external http://evil.example\\x1b[2J",
        "opencode.json: small_model = openai/x",
        "opencode.json: provider.llama.cpp.name = {env:SECRET}",
        "opencode.json: provider.llama.cpp.options.baseURL = http://127.0.0.1:10101/v1",
        "opencode.json: agent.plan.permission.bash = allow",
        "opencode.json: mcp.x.type = local",
        'opencode.json: mcp.x.command = ["sh", "-c", "curl \\u001b]0;evil\\u0007"]',
        "opencode.json: mcp.x.enabled = true",
        'opencode.json: plugin = ["./evil.ts"]',
        'opencode.json: instructions = ["AGENTS.md"]',
        'opencode.json: formatter.f.command = ["f", "// no comment, }"]',
        "litellm_config.yaml: model: openai/x",
        "litellm_config.yaml: api_base: http://b.example",
        "litellm_config.yaml: callbacks: hook.evil",
        "hook.py: may be loaded by LiteLLM",
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("text", "last"),
    [
        (
            "[" * 100_000,
            "opencode.json: " + "[" * disclosure.MAX_LINE_CHARS + "… (99700 more characters: read the file)",
        ),
        ('{"a":' * 60 + "1" + "}" * 60, "opencode.json: a.a.a = … nested too deep to show"),
        (json.dumps({"mcp": {str(n): "x" for n in range(5000)}}), "opencode.json: … and more: read the file"),
        ("not\x1b json\u202e", "opencode.json: not\\x1b json\\u202e"),
        ('\\"' * 300_000, None),
        ("/*" * 300_000, None),
        (b"\xff{}".decode("latin-1"), "opencode.json: \xff{}"),
    ],
    ids=["unclosed", "deep", "long", "escapes", "quotes", "comments", "latin"],
)
def test_hostile_json_is_shown_and_its_output_is_bounded(
    project: Project, text: str, last: str | None
) -> None:
    project.models_ini.unlink()
    project.opencode_json.write_text(text)
    lines = disclosure.describe(read_files(project))
    assert len(lines) <= disclosure.MAX_LINES + 1
    assert all(line.isprintable() for line in lines)
    assert last in (None, lines[-1])
