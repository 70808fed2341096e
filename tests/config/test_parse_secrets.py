"""Secrets in models.ini are refused."""

from __future__ import annotations

import pytest
from support.parsing import BASE, problems

from llmstack.config import (
    parse,
)
from llmstack.errors import Problem

SECRET_KEY = "secrets do not belong in this file, which is meant to be committed"
SECRET_VALUE = "the value looks like a secret, and this file is meant to be committed"


@pytest.mark.parametrize(
    ("key", "value", "message", "variable"),
    [
        ("api_key", "whatever", SECRET_KEY, "<PROVIDER>_API_KEY"),
        ("Token", "whatever", SECRET_KEY, "<PROVIDER>_API_KEY"),
        ("hf_token", "whatever", SECRET_KEY, "HF_TOKEN"),
        ("anthropic_api_key", "whatever", SECRET_KEY, "ANTHROPIC_API_KEY"),
        ("aws_access_key_id", "whatever", SECRET_KEY, "AWS_ACCESS_KEY_ID"),
        ("aws_secret_access_key", "whatever", SECRET_KEY, "AWS_SECRET_ACCESS_KEY"),
        ("aws_session_token", "whatever", SECRET_KEY, "AWS_SESSION_TOKEN"),
        ("aws_role_arn", "whatever", SECRET_KEY, "AWS_ROLE_ARN"),
        ("password", "", SECRET_KEY, "<PROVIDER>_API_KEY"),
        ("description", "sk-short", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("description", "use sk-ant-api03-abcdef here", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("ctx_size", "AKIAIOSFODNN7EXAMPLE", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("unknown", "ghp_0123456789abcdefghij", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("base_url", "https://me:hunter2@example.com", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("extra_args", "--api-key hunter2", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("command", "env OPENAI_API_KEY=hunter2 serve", SECRET_VALUE, "<PROVIDER>_API_KEY"),
        ("description", "arn:aws:iam::123456789012:role/admin", SECRET_VALUE, "<PROVIDER>_API_KEY"),
    ],
)
def test_secrets_are_refused_and_never_shown(key: str, value: str, message: str, variable: str) -> None:
    text = f"[a]\nctx_size = 8k\npath = x.gguf\n{key} = {value}\n"
    matches = [problem for problem in problems(text) if problem.line == 4 and message in problem.message]
    hint = (
        f"remove it here and export `{variable}` in the environment instead; if it was committed, revoke it"
    )
    assert matches == [Problem(4, "a", f"{key.lower()}: {message}", hint)]
    assert not value or value not in repr(problems(text))


@pytest.mark.parametrize(
    "value",
    [
        "ASIAIOSFODNN7EXAMPLE",
        "github_pat_0123456789abcdefghij",
        "hf_0123456789abcdefghij",
        "gsk_0123456789abcdefghij",
        "AIza0123456789abcdefghij",
        "xoxb-0123456789-abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abc",
        "-----BEGIN PRIVATE KEY-----",
        "Bearer 0123456789",
        "--hf-token=hunter2",
    ],
)
def test_values_that_look_like_secrets_are_refused(value: str) -> None:
    (problem,) = problems(f"[a]\nctx_size = 8k\npath = x.gguf\ndescription = {value}\n")
    assert (problem.line, problem.message) == (4, f"description: {SECRET_VALUE}")


def test_values_that_only_resemble_secrets_are_accepted() -> None:
    text = """\
[DEFAULT]
api_key_env = MY_KEY
max_output_tokens = 1k
[risk-taker]
aliases = task-force-one
description = knows sk-learn, tokens, the key to it all and --password
hf_repo = hf_user/ask-model-GGUF
hf_file = sky-model.gguf
ctx_size = 8k
"""
    assert list(parse(text, "m.ini", base=BASE).tiers) == ["risk-taker"]
