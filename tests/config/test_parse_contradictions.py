"""Contradictions in models.ini; each case contains the problems that it must report."""

from __future__ import annotations

import pytest
from support.parsing import problems

CONTRADICTIONS = """\
[default]
;! expected `[DEFAULT]`, in capitals
swapper = auto
[a]
ctx_size = 8k
path = x

[a b]
;! expected a tier's name of letters, digits and `. _ -`, 64 characters at most
ctx_size = 8k
path = x

[aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa]
;! expected a tier's name of letters, digits and `. _ -`, 64 characters at most
ctx_size = 8k
path = x

[auto]
;! `auto` is reserved
ctx_size = 8k
path = x

[Router]
;! `Router` is reserved
ctx_size = 8k
path = x

[DEFAULT]
hf_repo = a/b
;! hf_repo: belongs in a tier, not here
[ROUTING]
parallel = 1
;! parallel: belongs in [DEFAULT] or a tier, not here
[a]
ctx_size = 8k
path = x
path = y
;! path: written twice, on lines 9 and 10
router_port = 1
;! router_port: belongs in [DEFAULT], not here
ctx_sise = 8k
;! ctx_sise: unknown key
role =
;! role: expected a value, got nothing
description = ; only a comment
;! description: expected a value, got nothing

[a]
ctx_size = 8k
path = x
[a]
;! section written twice, on lines 1 and 4
ctx_size = 8k
path = x
role = fats
;! role: expected `fast`, `agent`, `ultra`, `plan` or `plan-uncensored`, got `fats`

[a]
;! ctx_size: missing: every tier needs its window in tokens
path = x

[a]
;! ctx_size: missing: every tier needs its window in tokens
;! model: missing: nothing says what serves this tier
command = x
tool = y

[a]
ctx_size = 8k
path = x
max_output_tokens = 8k
;! max_output_tokens: an answer of 8192 tokens leaves no room for a prompt in a window of 8192

[DEFAULT]
max_output_tokens = 16k
[a]
ctx_size = 8k
;! ctx_size: an answer of 16384 tokens leaves no room for a prompt in a window of 8192
path = x

[DEFAULT]
ctx_size = 64x
;! ctx_size: expected a size, got `64x`
[a]
path = x
[b]
path = y

[a]
ctx_size = 8k
backend = ggfu
;! backend: expected `gguf`, `litellm`, `server` or `mcp`, got `ggfu`

[a]
ctx_size = 8k
backend = gguf
;! backend: a gguf tier needs a file

[a]
ctx_size = 8k
backend = litellm
;! backend: a litellm tier needs `model = <provider>/<id>`

[a]
ctx_size = 8k
backend = mcp
;! backend: an mcp tier needs `command`
;! backend: an mcp tier needs `tool`

[a]
ctx_size = 8k
path = x
model = groq/x
;! model: is for `litellm` or `server` tiers, and this is a `gguf` tier

[a]
ctx_size = 8k
model = groq/x
parallel = 2
;! parallel: is for `gguf` tiers, and this is a `litellm` tier
hf_file_next = x.gguf
;! hf_file_next: is for `gguf` tiers, and this is a `litellm` tier
tool = x
;! tool: is for `mcp` tiers, and this is a `litellm` tier

[a]
ctx_size = 8k
backend = litellm
;! backend: a litellm tier needs `model = <provider>/<id>`
path = x
;! path: is for `gguf` tiers, and this is a `litellm` tier

[a]
ctx_size = 8k
path = x
;! path: a tier has either `path` or `hf_repo`, not both
hf_repo = a/b
hf_file = c.gguf

[a]
ctx_size = 8k
hf_repo = a/b
;! hf_repo: needs `hf_file`, the name of one file in it

[a]
ctx_size = 8k
hf_file = c.gguf
;! hf_file: needs `hf_repo`, the repository it is in

[a]
ctx_size = 8k
path = x
hf_file_next = c.gguf
;! hf_file_next: needs `hf_repo`: an upgrade is fetched from the hub

[a]
ctx_size = 8k
hf_repo = a/b
hf_file = c.gguf
hf_repo_next = a/c
;! hf_repo_next: needs `hf_file_next`, the queued upgrade it describes
size_gb_next = 2
;! size_gb_next: needs `hf_file_next`, the queued upgrade it describes
quant_next = Q5
;! quant_next: needs `hf_file_next`, the queued upgrade it describes

[a]
ctx_size = 8k
path = x
flash_attn = off
;! flash_attn: llama.cpp cannot keep values as `q8_0` without flash attention

[DEFAULT]
flash_attn = off
;! flash_attn: llama.cpp cannot keep values as `q8_0` without flash attention
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y
[c]
ctx_size = 8k
path = z
cache_type_v = f16

[a]
ctx_size = 8k
model = openai-compat/x
;! model: expected another prefix (`openai-compat/` is reserved), got `openai-compat/x`

[a]
ctx_size = 8k
model = groq/x
model_next = ollama/x
;! model_next: `ollama/` is served by server, and `groq/` by litellm

[a]
ctx_size = 8k
backend = server
model = groq/x
;! model: `groq/` cannot be reached with `backend = server`
model_next = azure/x
;! model_next: `azure/` cannot be reached with `backend = server`

[a]
ctx_size = 8k
path = x
role = fast
[b]
ctx_size = 8k
path = y
role = fast
;! role: `fast` is already the role of [a] (line 1)

[a]
ctx_size = 8k
path = x
aliases = auto, b
;! aliases: `auto` is the router's own model
;! aliases: `b` is the name of a tier (line 7)
[b]
ctx_size = 8k
path = y
aliases = z
[c]
ctx_size = 8k
path = y
aliases = y, z
;! aliases: `z` is already an alias of [b]

[a]
ctx_size = 8k
path = x
aliases = z
fallback = z, code
;! fallback: `z` is this tier itself
;! fallback: expected the name of a tier, got `code`

[a]
ctx_size = 8k
path = x
[A]
;! differs from [a] (line 1) in case only
ctx_size = 8k
path = y
[a_next]
;! `a_next` is what the upgrade of [a] is called
ctx_size = 8k
path = z

[DEFAULT]
router_port = 10103
;! router_port: 10103 is both `router_port` and `litellm_port`
[a]
ctx_size = 8k
path = x

[DEFAULT]
start_port = 10101
;! start_port: 10101 is both `router_port` and `start_port`
[a]
ctx_size = 8k
path = x

[DEFAULT]
router_port = 10002
;! router_port: model servers take 10001 to 10002, and `router_port` is 10002
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y

[DEFAULT]
start_port = 65535
;! start_port: 2 model servers do not fit above 65535
[a]
ctx_size = 8k
path = x
[b]
ctx_size = 8k
path = y

[a]
ctx_size = 8k
path = x
[ROUTING]
mid_fidelity_ceiling = 8k
;! mid_fidelity_ceiling: the mid ceiling (8192) is below the high one (12000)

[a]
ctx_size = 8k
path = x
[ROUTING]
high_fidelity_ceiling = 32k
;! high_fidelity_ceiling: the mid ceiling (32000) is below the high one (32768)
"""


def expected_problems(case: str) -> list[tuple[int, str, str]]:
    """Return the problems of a case: each `;! message` belongs to the nearest line above without `;!`."""
    expected, line, section = [], 0, ""
    for number, text in enumerate(case.split("\n"), start=1):
        if text.startswith(";! "):
            expected.append((line, section, text.removeprefix(";! ")))
        else:
            line = number
            section = text.strip("[]") if text.startswith("[") else section
    return expected


@pytest.mark.parametrize("case", CONTRADICTIONS.strip("\n").split("\n\n"))
def test_each_contradiction_is_reported_at_its_line(case: str) -> None:
    assert [
        (problem.line, problem.section, problem.message) for problem in problems(case)
    ] == expected_problems(case)
