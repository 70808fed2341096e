"""Which edits of models.ini require trust again, in any spelling."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.examples import sample
from support.trusting import MODELS_INI, trust

from llmstack.config import ini
from llmstack.trust import disclosure, models_ini
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import read_files
from llmstack.trust.store import Trust, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.paths import Project

NEUTRAL_EDITS = {
    "nothing": ("", ""),
    "context": ("ctx_size = 64k", "ctx_size = 32k"),
    "comment": ("; tokens", "; tokens for one request"),
    "comment behind a program": ("; keep it in memory", "; pinned"),
    "comment line": ("; the models", "# all the models"),
    "blanks": ("extra_args = --mlock", "  EXTRA_ARGS\t=  --mlock"),
    "windows newlines": ("\n", "\r\n"),
    "byte order mark": ("; the", "\ufeff; the"),
    "file at the hub": ("tiny.gguf", "tiny-v2.gguf"),
    "role": ("role = fast", "role = agent"),
    "port": ("[code-fast]", "router_port = 11\n[code-fast]"),
    "sampler added": ("role = fast", "sampler = temp=0.2, top_p=0.9\nrole = fast"),
    "description with anything": ("role = fast", "description = extra_args = --x [y]\nrole = fast"),
    "model of the same provider": ("ollama/qwen:7b", "ollama/llama:8b"),
    "tier added": ("[plan]", "[other]\npath = /models/x.gguf\n[plan]"),
    "routing": ("[plan]", "[ROUTING]\nmulti_turn = 3\n[plan]"),
    "order": ("host = 127.0.0.1\nparallel = 2", "parallel = 2\nhost = 127.0.0.1"),
    "program commented": ("role = fast", "; command = rm\nrole = fast"),
}
RELEVANT_EDITS = {
    "extra_args": ("--mlock", "--mlock --log-file /x"),
    "extra_args after a close semicolon": ("--mlock", "--mlock ;--x"),
    "extra_args in quotes": ("--mlock", '--x " ; y"'),
    "removed": ("extra_args = --mlock   ; keep it in memory\n", ""),
    "other tier": ("[code-fast]", "[plan2]"),
    "base_url": ("11434", "11435"),
    "host": ("127.0.0.1\n", "0.0.0.0\n"),
    "allowed_hosts": ("[code-fast]", "allowed_hosts = evil.example\n[code-fast]"),
    "api_key_env": ("[code-fast]", "api_key_env = AWS_SECRET\n[code-fast]"),
    "shared extra_args": ("parallel = 2", "extra_args = --x"),
    "chat_template": ("role = fast", "chat_template = x"),
    "command": ("role = fast", "command = x"),
    "tool": ("role = fast", "tool = x"),
    "backend": ("role = fast", "backend = mcp"),
    "provider": ("ollama/qwen", "openai/qwen"),
    "model with an address": ("ollama/qwen:7b", "ollama/https://evil.example"),
    "model without a provider": ("ollama/qwen:7b", "qwen"),
    "queued provider": ("[plan]", "[plan]\nmodel_next = openai/x"),
    "file at an address": ("hf_file = tiny.gguf", r"path = \\evil\share\x.gguf"),
    "unknown key": ("role = fast", "plugin = x"),
}


@pytest.mark.parametrize("change", NEUTRAL_EDITS.values(), ids=NEUTRAL_EDITS)
def test_a_neutral_edit_leaves_the_project_trusted(
    project: Project, trust_file: Path, change: tuple[str, str]
) -> None:
    trust(project, trust_file)
    edit(project, change)
    assert trust_store.check(project, trust_file) == Trust(Verdict.TRUSTED)


@pytest.mark.parametrize("change", RELEVANT_EDITS.values(), ids=RELEVANT_EDITS)
def test_a_relevant_edit_requires_trust_again(
    project: Project, trust_file: Path, change: tuple[str, str]
) -> None:
    trust(project, trust_file)
    edit(project, change)
    assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("models.ini",))


def edit(project: Project, change: tuple[str, str]) -> None:
    old, new = change
    text = MODELS_INI.replace(old, new) if old else MODELS_INI
    assert text != MODELS_INI or not old
    project.models_ini.write_bytes(text.encode())


HIDDEN_PROGRAMS = {
    "case": b"EXTRA_Args = --evil",
    "tabs": b"\t\textra_args\t=\t--evil",
    "no blanks": b"extra_args=--evil",
    "carriage return": b"description = x\rextra_args = --evil",
    "vertical tab": b"description = x\x0bextra_args = --evil",
    "form feed": b"description = x\x0cextra_args = --evil",
    "file separator": b"description = x\x1cextra_args = --evil",
    "next line": "description = x\x85extra_args = --evil".encode(),
    "line separator": "description = x\u2028extra_args = --evil".encode(),
    "paragraph separator": "; note\u2029extra_args = --evil".encode(),
    "null": b"description = x\0extra_args = --evil",
    "byte order mark": "\ufeffextra_args = --evil".encode(),
    "no-break space": "\u00a0extra_args = --evil".encode(),
    "no-break space after": "extra_args\u00a0= --evil".encode(),
    "ideographic space": "\u3000extra_args\u3000=\u3000--evil".encode(),
    "kelvin sign": "to\u212aen = --evil".encode(),
    "long s": "extra_arg\u017f = --evil".encode(),
    "zero width": "extra\u200b_args = --evil".encode(),
    "not UTF-8": b"description = \xff\nextra_args = --evil",
    "colon": b"extra_args: --evil",
    "colon then equals": b"description: x = --evil",
    "second section": b"[code-fast]\nextra_args = --evil",
    "shared": b"[DEFAULT]\nextra_args = --evil",
    "broken header": b"[code-fast\nextra_args = --evil",
    "header with a tail": b"[code-fast] extra_args = --evil",
    "header with a hash": b"[x] # y\nextra_args = --evil",
    "odd header": "[x\u00a0]\nextra_args = --evil".encode(),
    "header behind a no-break space": "\u00a0[x]\nextra_args = --evil".encode(),
    "continuation": b"extra_args =\n  --evil",
    "twice": b"extra_args = --fine\nextra_args = --evil",
    "comment that is none": b"extra_args = --fine;--evil",
    "comment behind a no-break space": "extra_args = --fine\u00a0;--evil".encode(),
    "comment in quotes": b'extra_args = "--fine ; --evil"',
    "comment before the key": b"extra_args ;x = --evil",
}


@pytest.mark.parametrize("line", HIDDEN_PROGRAMS.values(), ids=HIDDEN_PROGRAMS)
def test_no_spelling_of_a_line_hides_a_program(project: Project, trust_file: Path, line: bytes) -> None:
    trust(project, trust_file)
    text = MODELS_INI.encode()
    for changed in (text + line + b"\n", line + b"\n" + text, text.replace(b"role = fast", line)):
        project.models_ini.write_bytes(changed)
        assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("models.ini",))
        described = disclosure.describe(read_files(project))
        assert any("--evil" in entry or "extra_args =" in entry for entry in described)
    project.models_ini.write_bytes(text + line + b"\n")
    trust(project, trust_file)
    project.models_ini.write_bytes(text + line.replace(b"--evil", b"--worse") + b"\n")
    assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("models.ini",))


def rarely_odd(plain: str, *odd: str) -> st.SearchStrategy[str]:
    """Return `plain` nine times out of ten, since one odd character makes the whole text count."""
    return st.integers(0, 9 * len(odd)).map(lambda number: odd[number] if number < len(odd) else plain)


BLANK = rarely_odd(" ", "", "\t", "  ", "\xa0", "\u3000", "\v", "\0", "\ufeff")
KEYS = [
    "extra_args",
    "Extra_ARGS",
    "command",
    "description",
    "ctx_size",
    "model",
    "base_url",
    "path",
    "x.y-z",
]
VALUES = [
    "",
    "--x",
    "a=b",
    "ollama/x",
    "openai/y",
    "http://e",
    '"a ; b"',
    "a;b",
    "a # b",
    "[a]",
    "x ;y",
    "\\ ;",
]
TAILS = rarely_odd("", " ; note", "\t;", " ;note", ";note", "\xa0; note", " # note", " extra_args = --y")
SETTINGS = st.tuples(
    rarely_odd("", " ", "\t", "\xa0", ";", "#"),
    st.sampled_from(KEYS),
    BLANK,
    rarely_odd("=", ":", "==", " ;="),
    BLANK,
    st.sampled_from(VALUES),
    TAILS,
).map("".join)
HEADERS = st.tuples(
    rarely_odd("", " ", "\xa0"), st.sampled_from(["[a]", "[b]", "[ a ]", "[DEFAULT]"]), TAILS
).map("".join)
ENDS = rarely_odd("\n", "\r\n", "\r", "\f", "\x1c", "\x85", "\u2028")
LINES = st.tuples(st.one_of(HEADERS, SETTINGS, SETTINGS), ENDS).map("".join)


@sample(500)
@given(st.lists(LINES, max_size=6).map(lambda lines: "[a]\n" + "".join(lines)))
def test_every_relevant_setting_that_the_parser_reads_counts(text: str) -> None:
    view = models_ini.security_view(text.encode())
    if view is None:
        return
    settings = view.settings
    for section in ini.scan(text).sections:
        for entry in section.entries:
            if entry.key in models_ini.TRUST_NEUTRAL_KEYS:
                continue
            values = [
                setting.value
                for setting in settings
                if (setting.section.strip(), setting.key) == (section.name, entry.key)
            ]
            if entry.key in {"model", "model_next"}:
                provider = entry.value.split("/")[0]
                assert any(value.lstrip().startswith(provider) for value in values)  # as the parser strips it
            else:
                assert any(entry.value in value for value in values)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("line", ["[", "[x] ", "x = y ", "x ", "x = ;", '"'])
def test_no_text_takes_long_to_analyse(line: str) -> None:
    models_ini.security_view((line + " " * 3_000_000 + "!").encode())
    models_ini.security_view((line * 500_000).encode())
