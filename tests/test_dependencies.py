"""Every third-party module that the package imports is declared in pyproject.toml."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import TYPE_CHECKING

import llmstack

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = Path(llmstack.__file__).parent
PYPROJECT = PACKAGE.parent / "pyproject.toml"


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the top-level name of every absolute import in a file, also of those within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.split(".")[0]


def normalize(name: str) -> str:
    """Return the canonical name of a distribution, as PyPI defines it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def declared_distributions() -> set[str]:
    """Return the distributions that users install with the package or an extra other than `dev`."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    extras = (items for name, items in project["optional-dependencies"].items() if name != "dev")
    requirements = [*project["dependencies"], *(item for items in extras for item in items)]
    names = (re.match(r"[A-Za-z0-9._-]+", requirement) for requirement in requirements)
    return {normalize(name[0]) for name in names if name}


def test_every_imported_distribution_is_declared() -> None:
    modules = {module for path in PACKAGE.rglob("*.py") for module in imported_modules(path)}
    third_party = modules - sys.stdlib_module_names - {"llmstack"}
    distributions = packages_distributions()
    declared = declared_distributions()
    undeclared = {
        module
        for module in third_party
        if not declared & {normalize(name) for name in distributions.get(module, [module])}
    }
    assert not undeclared
