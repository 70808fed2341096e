"""PowerShell's hook against PowerShell's grammar; in PowerShell itself test_terminal.py runs it."""

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
from llmstack.shell.base import HookValues, Look, Shell
from llmstack.shell.environment import NAMES
from llmstack.shell.shells import SHELLS

SHELL: Shell = SHELLS["powershell"]
NASTY = 'it\'s `$(touch PWNED)` \u2019; "x" @PYTHON@ \n{} %'


def parse(text: str) -> tree_sitter.Node:
    language = tree_sitter.Language(tree_sitter_powershell.language())
    return tree_sitter.Parser(language).parse(text.removeprefix("\ufeff").encode()).root_node


def strings(node: tree_sitter.Node) -> list[str]:
    """Return the literal strings of a script, as they are written."""
    if node.type == "verbatim_string_characters":
        return [(node.text or b"").decode()]
    return [found for child in node.children for found in strings(child)]


def test_the_hook_is_powershell_and_its_values_are_literals() -> None:
    text = SHELL.hook(HookValues(Path(f"/{NASTY}/python"), Path(f"/{NASTY}/store")))
    root = parse(text)
    assert not root.has_error
    quoted = SHELL.quote(f"/{NASTY}/python")
    assert quoted in strings(root)
    assert SHELL.quote(f"/{NASTY}/store") in strings(root)
    assert "Invoke-Expression" not in text
    assert "@NAMES@" not in text


def test_the_subshell_is_powershell() -> None:
    shell = SHELL.subshell(Path("/p/.llmstack"), {}, Look({"OPENCODE_CONFIG": NASTY}, f"[{NASTY}]", "67"))
    text = base64.b64decode(shell.arguments[-1]).decode("utf-16-le")
    root = parse(text)
    assert not root.has_error
    assert {SHELL.quote(NASTY), SHELL.quote(f"[{NASTY}]")} <= set(strings(root))


def test_the_grammar_would_notice() -> None:
    assert parse("function global:x { if ($a { 1 } }").has_error


def test_what_it_reads_is_ascii_json(tmp_path: Path) -> None:
    project = make_project(tmp_path / "ünï")
    entry = Path(llmstack.shell.base.__file__).with_name("entry.py")
    store = UserDirs.from_env({}).trusted_projects
    answer = subprocess.run(
        [sys.executable, "-I", "-S", str(entry), "json", str(store), str(project.work_dir)],
        capture_output=True,
        check=True,
    )
    fields = json.loads(answer.stdout.decode("ascii"))
    assert fields[:6] == ["on", "", "[llmstack:ünï]", "67", "current", ""]
    assert dict(zip(fields[6::2], fields[7::2], strict=True)).keys() == {*NAMES} - {"LLMSTACK_REMOTE_URL"}
