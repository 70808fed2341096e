"""The documentation against the code: its commands, options, keys and variables are those that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main

from llmstack.cli import build_app
from llmstack.config import parse, schema

ROOT = Path(__file__).parents[1]
PAGES = ("UPGRADING.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md")
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = {
    path.relative_to(ROOT / "docs").as_posix(): path.read_text(encoding="utf-8")
    for path in ROOT.glob("docs/**/*.md")
}
GUIDE = "\n".join([README, *((ROOT / name).read_text(encoding="utf-8") for name in PAGES), *DOCS.values()])
COMMANDS = getattr(typer.main.get_command(build_app()), "commands")  # noqa: B009 - click is not imported

# Set by the stack for its own processes, or by the shell hook.
INTERNAL = {"LLMSTACK_HOOK", "LLMSTACK_INSTANCE", "LLMSTACK_LIFELINE", "LLMSTACK_SAVED_"}


def test_the_set_up_commands_have_the_form_that_ci_looks_for() -> None:
    commands = re.findall(r"^pip install -e '\.\[.*", README, re.MULTILINE)
    assert commands == ["pip install -e '.[engine]' && llmstack demo", "pip install -e '.[dev]' && pytest"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_of_commands_lists_every_option(command: str) -> None:
    row = next(
        line
        for line in DOCS["reference/commands.md"].splitlines()
        if re.match(rf"\| `llmstack {command}[ `]", line)
    )
    documented = set(re.findall(r"(?<=`)--[a-z-]+", row))
    options = {name for each in COMMANDS[command].params for name in each.opts if name.startswith("--")}
    assert documented == options - {"--help"} - ({"--model"} if "`-m`" in row else set())


def test_every_command_line_in_the_guide_is_valid() -> None:
    command_lines = re.findall(r"(?:^\$ |`|[|&] )llmstack ([a-z][a-z-]+)([^`\n&|;<]*)", GUIDE, re.MULTILINE)
    assert len(command_lines) > len(COMMANDS)
    for command, rest in command_lines:
        options = {name for each in COMMANDS[command].params for name in each.opts}
        valid_options = options | {"--help"} if command != "run" else set()
        assert command in COMMANDS
        assert command == "run" or set(re.findall(r"(?<= )--?[a-z][a-z-]*", rest)) <= valid_options, rest


def test_every_key_of_models_ini_is_in_its_table() -> None:
    tables = re.findall(r"^\| (`.*?) \|", DOCS["reference/models-ini.md"], re.MULTILINE)
    keys = [key for cell in tables for key in re.findall(r"`([a-z_]+)`", cell)]
    assert sorted(keys) == sorted({*schema.DEFAULT, *schema.ROUTING, *schema.TIER})
    shared = {key for cell in tables if "*" in cell for key in re.findall(r"`([a-z_]+)`", cell)}
    assert shared == {*schema.LIMITS, *schema.ENGINE}


def test_the_example_of_models_ini_is_valid() -> None:
    match = re.search(r"```ini\n(\[DEFAULT\].*?)```", DOCS["reference/models-ini.md"], re.DOTALL)
    assert match
    assert list(parse(match[1], "models-ini.md", base=ROOT).tiers) == ["code-fast", "code-smart", "plan"]


def test_every_environment_variable_is_documented() -> None:
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "llmstack").rglob("*.py"))
    pattern = r'"((?:LLMSTACK|LLAMA_S|LITELLM_BIN|HF_(?!TOKENS)|LOCAL_LLM|LOG_LEVEL|NO_COLOR)[A-Z_]*)"'
    read = set(re.findall(pattern, sources))
    assert "LLMSTACK_WORK_DIR" in read
    assert (
        sorted(name for name in read - INTERNAL if f"`{name}`" not in DOCS["reference/environment.md"]) == []
    )


def test_architecture_names_files_and_objects_that_exist() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    paths = set(re.findall(r"`([\w/]+\.(?:py|toml|md))`", text))
    roots = (ROOT / "llmstack", ROOT)
    assert [path for path in paths if not any((root / path).is_file() for root in roots)] == []
    named = re.findall(r"`([\w/]+\.py)`\s*(?:,|\()\s*`(\w+(?:\.\w+)?)`((?:, `\w+`)*)\)", text)
    assert named
    for path, name, more in named:
        source = (ROOT / "llmstack" / path).read_text(encoding="utf-8")
        for each in [name.rpartition(".")[2], *re.findall(r"\w+", more)]:
            assert re.search(
                rf"^\s*(?:async )?(?:def|class) {each}\b|^\s*{each}\b.*=", source, re.MULTILINE
            ), (path, each)
