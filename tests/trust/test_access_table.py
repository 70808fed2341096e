"""The table of what each command and path may do is complete, and its checks are the real ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route
from trust.test_untrusted_clone import EXPECTED

from llmstack.cli import COMMANDS
from llmstack.router.admin.admin_api import admin_api
from llmstack.router.dialects.table import dialects

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "access.md").read_text(encoding="utf-8")
SAFE = {"GET", "HEAD"}


def rows(heading: str) -> dict[str, list[str]]:
    """Return the cells of a table by those of its first column."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}


def unreachable() -> None:
    raise AssertionError("no request is made")


ROUTES = [route for route in admin_api(unreachable).app.routes if isinstance(route, Route)]  # type: ignore[arg-type]


def test_every_command_has_a_line() -> None:
    assert rows("Commands").keys() == COMMANDS.keys()


def test_every_path_has_a_line() -> None:
    paths = {route.path for route in ROUTES} | set(dialects())
    assert rows("Paths of the router").keys() == paths


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_the_methods_of_a_path_are_those_in_its_line(route: Route) -> None:
    assert route.methods is not None
    documented = rows("Paths of the router")[route.path][0]
    assert set(re.findall("[A-Z]+", documented)) == route.methods


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.path)
def test_a_path_that_changes_something_is_for_the_owner_and_not_for_get(route: Route) -> None:
    _, _, _, changes, checks = [*rows("Paths of the router")[route.path], ""][:5]
    requires_owner = isinstance(route, APIRoute) and any(
        dependency.call is not None and dependency.call.__name__ == "require_owner"
        for dependency in route.dependant.dependencies
    )
    assert requires_owner == ("owner" in checks) == (changes != "nothing")
    assert not requires_owner or not (route.methods or set()) & SAFE


def test_the_commands_that_need_trust_are_those_that_are_refused_without_it() -> None:
    refused = {command.split()[0] for command, expected in EXPECTED.items() if expected == "refused"}
    table = rows("Commands")
    assert {name for name, cells in table.items() if {"trust", "consent"} & set(cells[-1].split(", "))} == (
        refused | {"trust"}
    )
