"""Model files and hubs that are made to exhaust memory or time: `check`, `reload`, and what they may cost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psutil
import pytest
from support.hostile_gguf import HOSTILE, no_shape
from support.hostile_hub import FAULTS, FILE, REPO, SIZE, running_hostile_hub
from support.peak_memory import needs_proc, peak_bytes
from support.project import CliProject
from support.waiting import wait_until

from llmstack.hub import metadata
from llmstack.hub.access import HubAccess
from llmstack.hub.metadata import FileQuery, HubUnreachableError, look_up

if TYPE_CHECKING:
    from collections.abc import Iterator

MB = 1024 * 1024
MAX_PEAK_BYTES = 300 * MB
# Runs the command line, and prints the peak of its memory at the end.
MEASURED = """
import atexit, sys
from support.peak_memory import peak_bytes
atexit.register(lambda: print("peak", peak_bytes(), file=sys.stderr))
from llmstack.cli import main
main()
"""


@pytest.fixture
def checked(tmp_path: Path) -> CliProject:
    project = CliProject(tmp_path / "project")
    project.state.mkdir(parents=True)
    project.env |= {"HF_HUB_CACHE": str(tmp_path / "cache")}
    return project


def write_tiers(project: CliProject, tiers: dict[str, str]) -> None:
    text = "".join(f"[{name}]\nctx_size = 4k\n{lines}\n" for name, lines in tiers.items())
    (project.state / "models.ini").write_text(
        f"[DEFAULT]\nmemory_gb = 8\nrouter_port = {project.port}\ncache_ram_gb = 0\n{text}"
    )
    project.trust()


def start_check(project: CliProject, *flags: str) -> subprocess.Popen[str]:
    environment = {**project.env, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", MEASURED, "check", "--json", *flags],
        cwd=project.directory,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish_check(project: CliProject, *flags: str) -> tuple[dict[str, Any], int]:
    """Run `check`; return its result and the peak of its memory."""
    process = start_check(project, *flags)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 1, err
    return json.loads(out), int(err.split()[-1])


@needs_proc
def test_check_reports_hostile_files_and_stays_small(checked: CliProject, tmp_path: Path) -> None:
    for write in HOSTILE:
        write(tmp_path / f"{write.__name__}.gguf")
    write_tiers(checked, {write.__name__: f"path = {tmp_path}/{write.__name__}.gguf" for write in HOSTILE})
    result, peak = finish_check(checked, "--offline")
    reported = {problem["tier"] for problem in result["problems"] if problem["level"] == "error"}
    assert reported >= {write.__name__ for write in HOSTILE} - {"long_strings"}
    assert peak < MAX_PEAK_BYTES


@needs_proc
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "trickle" not in fault])
def test_check_ends_with_a_hub_that_never_ends(checked: CliProject, fault: str) -> None:
    write_tiers(checked, {"a": f"hf_repo = {REPO}\nhf_file = {FILE}"})
    with running_hostile_hub(fault) as hub:
        checked.env["HF_ENDPOINT"] = hub.url
        result, peak = finish_check(checked)
        assert hub.sent_bytes < 24 * MB  # with what the system has buffered for its connections
    assert peak < MAX_PEAK_BYTES
    assert result["tiers"][0]["kv_known"] is False


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to another process")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "trickle" in fault])
def test_a_signal_ends_a_check_that_waits_for_the_hub(
    checked: CliProject, fault: str, number: signal.Signals, code: int
) -> None:
    write_tiers(checked, {"a": f"hf_repo = {REPO}\nhf_file = {FILE}"})
    with running_hostile_hub(fault) as hub:
        checked.env["HF_ENDPOINT"] = hub.url
        process = start_check(checked)
        try:
            assert hub.trickling.wait(30)
            process.send_signal(number)
            process.communicate(timeout=10)
            assert process.returncode == code
        finally:
            process.kill()
            process.wait()


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot send these signals to another process")
def test_a_signal_ends_a_check_that_waits_for_a_file(checked: CliProject, tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.gguf" for number in range(20)]
    for path in paths:
        no_shape(path)  # each takes half a second
    write_tiers(checked, {path.stem: f"path = {path}" for path in paths})
    process = start_check(checked, "--offline")
    try:
        wait_until(
            lambda: any(file.path in map(str, paths) for file in psutil.Process(process.pid).open_files()),
            timeout=60,
        )
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode == 143
    finally:
        process.kill()
        process.wait()


def test_a_header_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "HEADER_S", 0.3)
    query = FileQuery(REPO, FILE, with_header=True)
    with running_hostile_hub("a range that trickles") as hub:
        entry = look_up([query], HubAccess.from_env({"HF_ENDPOINT": hub.url}))[query]
    assert (entry.header, entry.size_bytes) == (None, SIZE)


def test_a_hub_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "LOOK_UP_S", 0.5)
    with running_hostile_hub("a description that trickles") as hub:
        access = HubAccess.from_env({"HF_ENDPOINT": hub.url})
        with pytest.raises(HubUnreachableError, match=r"not everything was answered within 0\.5 s"):
            look_up([FileQuery(REPO, FILE)], access)


class Reload(threading.Thread):
    """Reloads a router, and keeps its answer."""

    def __init__(self, project: CliProject) -> None:
        super().__init__()
        self.url = f"{project.url}/llmstack/reload"
        self.headers = {"authorization": f"Bearer {project.private.router_token.read_text().strip()}"}
        self.answer: dict[str, Any] = {}

    def run(self) -> None:
        self.answer = httpx.post(self.url, headers=self.headers, timeout=100).json()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[CliProject]:
    project = CliProject(tmp_path / "project")
    project.install(tiers=("code-fast",))
    project.start()
    yield project
    project.close()


@needs_proc
@pytest.mark.engine
def test_the_router_answers_while_a_reload_reads_hostile_files(stack: CliProject, tmp_path: Path) -> None:
    tiers = ""
    for write in HOSTILE:
        write(tmp_path / f"{write.__name__}.gguf")
        tiers += f"[{write.__name__}]\npath = {tmp_path}/{write.__name__}.gguf\n"
    with (stack.state / "models.ini").open("a") as ini:
        ini.write(tiers)
    reload, times = Reload(stack), []
    reload.start()
    with httpx.Client() as client:
        while reload.is_alive():
            start = time.perf_counter()
            assert client.get(f"{stack.url}/health", timeout=60).is_success
            times.append(time.perf_counter() - start)
    reload.join()
    print(f"{len(times)} answers, the slowest after {max(times) * 1e3:.0f} ms")
    assert set(reload.answer["unavailable"]) == {write.__name__ for write in HOSTILE} - {"long_strings"}
    assert len(times) > 100  # 1 to 3 ms each
    assert max(times) < 1  # 20 ms on an idle machine
    assert peak_bytes(stack.pid()) < MAX_PEAK_BYTES
    assert stack.answer("hello", "code-fast") == "[code-fast] You said: hello"
