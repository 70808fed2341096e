"""A module imports only from layers below its own."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import llmstack

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(llmstack.__file__).parent
LAYERS = [
    {
        *("detached", "errors", "http_headers", "http_heads", "kv_types"),
        *("progress", "router_proof", "terminal_text", "units"),
    },
    {"paths", "files", "console_progress", "upstream"},
    {"console", "trust"},
    {"channel"},
    {"config"},
    {"policy", "process", "llama_cpp", "download", "providers", "shell"},
    {"serving"},
    {"router.dialects", "hub"},
    {"generators", "router", "clients"},
    {"stack"},
    {"report", "context"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
LEVEL = {name: level for level, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(PACKAGE.rglob("*.py"))


def layer_name(module: str) -> str:
    """Return `router.dialects` for `llmstack.router.dialects.x`, `stack` for `llmstack.stack.x`."""
    parts = module.split(".")[1:] or [""]
    return "router.dialects" if parts[:2] == ["router", "dialects"] else parts[0]


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module imported at run time, also inside functions, but not under TYPE_CHECKING."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            submodules = [f"{base}.{alias.name}" for alias in node.names]
            yield from (name if _is_module(name) else base for name in submodules)
        else:
            yield from imports(node)


def _is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_a_module_imports_only_from_layers_below_its_own(path: Path) -> None:
    module = module_name(path)
    if module == "llmstack":
        return
    own = layer_name(module)
    own_imports = {name for name in imports(ast.parse(path.read_text())) if name.startswith("llmstack.")}
    too_high = [
        name for name in own_imports if layer_name(name) != own and LEVEL[layer_name(name)] >= LEVEL[own]
    ]
    assert not too_high


@pytest.mark.parametrize("path", MODULES, ids=module_name)
def test_only_the_command_line_imports_typer_and_rich(path: Path) -> None:
    module = module_name(path)
    roots = {name.split(".")[0] for name in imports(ast.parse(path.read_text()))}
    if module == "llmstack" or layer_name(module) not in {"cli", "commands", "console", "console_progress"}:
        assert not roots & {"typer", "rich"}
    assert "click" not in roots


def test_commands_do_not_import_each_other() -> None:
    commands = [path for path in MODULES if path.parent.name == "commands"]
    for path in commands:
        others = {
            name
            for name in imports(ast.parse(path.read_text()))
            if name.startswith("llmstack.commands.") and name != "llmstack.commands.options"
        }
        assert not others, path


def test_the_stack_does_not_import_the_router() -> None:
    stack = [path for path in MODULES if layer_name(module_name(path)) == "stack"]
    imported = {name for path in stack for name in imports(ast.parse(path.read_text()))}
    assert not {name for name in imported if name.startswith("llmstack.") and layer_name(name) == "router"}
