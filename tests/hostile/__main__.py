"""Run the hostile cases and print how many held: `python -m tests.hostile`, with any options of pytest."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

KINDS = {
    "test_hosts_and_origins": "Host and Origin",
    "test_smuggling": "request smuggling",
    "test_server_answers": "answers of a model server",
    "test_hostile_routers": "routers, for the command line",
    "test_outside_names": "names that become paths",
}
CASE_TEST = "test_holds["  # each module has one test that runs for every case


class Counts:
    """A plugin that counts the cases of each kind, and those that held."""

    def __init__(self) -> None:
        self.failed: set[str] = set()
        self.cases: Counter[str] = Counter()
        self.held: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        if report.when == "teardown" and CASE_TEST in report.nodeid:
            module = Path(report.nodeid.partition("::")[0]).stem
            self.cases[module] += 1
            self.held[module] += report.nodeid not in self.failed


def main() -> int:
    """Return 0 if all cases held."""
    counts = Counts()
    # In one process: all cases of a kind share one router.
    code = pytest.main([str(Path(__file__).parent), "-n", "0", *sys.argv[1:]], plugins=[counts])
    print(f"\n{'kind':<32}{'cases':>8}{'held':>8}")
    for module, kind in KINDS.items():
        print(f"{kind:<32}{counts.cases[module]:>8}{counts.held[module]:>8}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
