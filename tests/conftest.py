from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest
from support.examples import by_hand
from support.home import isolated_env
from support.hub import running_hub
from support.processes import require_no_process_left

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from pluggy import Result
    from support.hub import FakeHub


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="Count a skipped test as failed.")
    parser.addoption(
        "--examples", type=int, metavar="COUNT", help="Run property tests with this many examples, at random."
    )


@pytest.hookimpl(tryfirst=True)  # before the timeout is read
def pytest_configure(config: pytest.Config) -> None:
    """Many examples take as long as they take."""
    count = config.getoption("--examples")
    if count is not None:
        by_hand(count)
        config.option.timeout = 0


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Result[pytest.TestReport], None]:
    """Where every tool is installed, a skip hides that something was not tested."""
    report = (yield).get_result()
    if item.config.getoption("--no-skips") and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which --no-skips does not allow: {report.longrepr}"


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the user's own is read or written: an empty home, and none of the variables we look at."""
    env = isolated_env(tmp_path_factory.mktemp("home"), os.environ)
    for name in os.environ.keys() - env.keys():
        monkeypatch.delenv(name)
    for name, value in env.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def no_process_left() -> Iterator[None]:
    """A test ends what it starts."""
    with require_no_process_left():
        yield


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop that the router runs on where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on Windows
    except ImportError:
        return {"asyncio": asyncio.new_event_loop}
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def hub_server() -> Iterator[FakeHub]:
    """A model hub and its storage host, both on loopback."""
    with running_hub() as hub:
        yield hub
