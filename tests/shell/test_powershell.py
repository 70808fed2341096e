"""The PowerShell hook, parsed with PowerShell's grammar. test_terminal.py runs it in PowerShell itself."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import tree_sitter
import tree_sitter_powershell
from support.terminal import make_project

import llmstack.shell.base
from llmstack.paths import UserDirs
from llmstack.shell.base import Activation, HookValues, Shell
from llmstack.shell.environment import EXPORTED_NAMES
from llmstack.shell.shells import SHELLS

SHELL: Shell = SHELLS["powershell"]
NASTY = 'it\'s `$(touch PWNED)` \u2019; "x" @PYTHON@ \n{} %'


def parse(text: str) -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(text.removeprefix("\ufeff").encode()).root_node


def strings(node: tree_sitter.Node) -> list[str]:
    """Return the literal strings of a script, as written in the source."""
    if node.type == "verbatim_string_characters":
        return [(node.text or b"").decode()]
    return [text for child in node.children for text in strings(child)]


def test_the_hook_is_valid_powershell_and_quotes_its_values() -> None:
    text = SHELL.hook_script(HookValues(Path(f"/{NASTY}/python"), Path(f"/{NASTY}/trust_file")))
    root = parse(text)
    assert not root.has_error
    quoted = SHELL.quote(f"/{NASTY}/python")
    assert quoted in strings(root)
    assert SHELL.quote(f"/{NASTY}/trust_file") in strings(root)
    assert "Invoke-Expression" not in text
    assert "@NAMES@" not in text


def test_the_subshell_command_is_valid_powershell() -> None:
    subshell = SHELL.subshell(
        Path("/p/.llmstack"), {}, Activation({"OPENCODE_CONFIG": NASTY}, f"[{NASTY}]", "67")
    )
    text = base64.b64decode(subshell.args[-1]).decode("utf-16-le")
    root = parse(text)
    assert not root.has_error
    assert {SHELL.quote(NASTY), SHELL.quote(f"[{NASTY}]")} <= set(strings(root))


def test_the_grammar_rejects_a_syntax_error() -> None:
    assert parse("function global:x { if ($a { 1 } }").has_error


def test_the_hook_reads_ascii_json(tmp_path: Path) -> None:
    project = make_project(tmp_path / "ünï")
    entry = Path(llmstack.shell.base.__file__).with_name("entry.py")
    trust_file = UserDirs.from_env({}).trusted_projects
    process = subprocess.run(
        [sys.executable, "-I", "-S", str(entry), "json", str(trust_file), str(project.work_dir)],
        capture_output=True,
        check=True,
    )
    fields = json.loads(process.stdout.decode("ascii"))
    assert fields[:6] == ["on", "", "[llmstack:ünï]", "67", "current", ""]
    assert dict(zip(fields[6::2], fields[7::2], strict=True)).keys() == {*EXPORTED_NAMES} - {
        "LLMSTACK_REMOTE_URL"
    }
