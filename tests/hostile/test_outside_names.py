"""Names from outside that become paths: nothing outside the place that they are for is read or written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from hostile.outside_names import CONTENT, NAMES, PLACES, Outside
from support.hub import COMMIT, running_hub
from support.releases import running_release_page

from llmstack.errors import LlmstackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from router.harness import RunningRouter
    from support.hub import FakeHub
    from support.releases import ReleasePage


@dataclass(frozen=True)
class Case:
    """One name at one place."""

    name: str
    place: str
    text: str


CASES = tuple(Case(f"{place}: {text!r}", place, text) for place in PLACES for text in NAMES)


@pytest.fixture(scope="module")
def servers() -> Iterator[tuple[FakeHub, ReleasePage]]:
    with running_hub() as hub, running_release_page() as page:
        yield hub, page


@pytest.fixture
def outside(
    tmp_path: Path,
    servers: tuple[FakeHub, ReleasePage],
    lasting_router: RunningRouter,
) -> Outside:
    outside = Outside(tmp_path, *servers, lasting_router)
    outside.hub.files.clear()
    outside.hub.linked_etag, outside.hub.commit = None, COMMIT
    outside.page.latest = "251"
    outside.inside.mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "m.gguf").write_bytes(CONTENT)
    return outside


def files_outside(root: Path) -> dict[str, bytes]:
    files = (path for path in root.rglob("*") if path.is_file() and "inside" not in path.parts)
    return {str(path): path.read_bytes() for path in files}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_holds(case: Case, outside: Outside) -> None:
    before = files_outside(outside.root)
    try:
        paths = tuple(PLACES[case.place](outside.written(case.text), outside))
    except LlmstackError:
        paths = ()
    for path in paths:
        assert path.resolve().is_relative_to(outside.inside)
    assert files_outside(outside.root) == before


def test_every_place_is_tried_with_every_name() -> None:
    assert len({case.name for case in CASES}) == len(PLACES) * len(NAMES) >= 13 * 19
