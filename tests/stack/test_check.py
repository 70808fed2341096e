"""`llmstack check` with a hub on this machine, and without one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.gguf import gguf, llama, text, tokens
from support.hub_api import DATE, FakeHubApi, running_hub_api
from support.net import free_port
from support.project import CliProject

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GB = 1024**3
REPO = "Some/Model-GGUF"
HEADER = gguf(llama(tokenizer__ggml__tokens=tokens(100_000)))


@pytest.fixture
def hub() -> Iterator[FakeHubApi]:
    with running_hub_api() as hub:
        yield hub


@pytest.fixture
def here(tmp_path: Path, hub: FakeHubApi) -> CliProject:
    project = CliProject(tmp_path / "project")
    project.state.mkdir(parents=True)
    project.env |= {"HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(tmp_path / "cache")}
    return project


def write_tiers(project: CliProject, tiers: str, defaults: str = "memory_gb = 8") -> None:
    (project.state / "models.ini").write_text(
        f"[DEFAULT]\n{defaults}\nrouter_port = {project.port}\ncache_ram_gb = 0.5\n{tiers}"
    )
    project.trust()


def run_check(project: CliProject, *flags: str) -> dict[str, Any]:
    command = project.run("check", "--json", *flags)
    result: dict[str, Any] = json.loads(command.out)
    assert command.code == int(any(problem["level"] == "error" for problem in result["problems"]))
    return result


def add_to_cache(project: CliProject, file: str, content: bytes, etag: str) -> Path:
    """Put a file into the hub cache, as the hub's own tools lay it out."""
    repository = project.directory.parent / "cache" / f"models--{REPO.replace('/', '--')}"
    blob, link = repository / "blobs" / etag, repository / "snapshots" / "c0ffee" / file
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    return blob


def test_the_memory_of_a_file_not_on_disk_comes_from_its_header_at_the_hub(
    here: CliProject, hub: FakeHubApi
) -> None:
    hub.add(REPO, "model-Q4_K_M.gguf", HEADER, size=3 * GB)
    write_tiers(here, f"[a]\nrole = fast\nhf_repo = {REPO}\nhf_file = model-Q4_K_M.gguf\nctx_size = 4k\n")
    result = run_check(here)
    (tier,) = result["tiers"]
    # 3 layers x 2 heads x 8 values x (K + V) at 34/32 bytes, for 2 slots of 4096
    assert (tier["on_disk"], tier["size_bytes"], tier["fits"]) == (False, 3 * GB, True)
    assert (tier["kv_known"], tier["need"]["kv"]) == (True, 2 * 4096 * 3 * 2 * 8 * 2 * 34 // 32)
    assert tier["hub"] == {
        "page": f"{hub.url}/{REPO}",
        "size_bytes": 3 * GB,
        "date": DATE.replace(".000Z", "+00:00"),
    }
    assert result["budget_bytes"] == 8 * GB
    ranges = [asked for _, path, asked in hub.request_log if path.startswith("/storage/")]
    assert ranges == ["bytes=0-262143"]  # the vocabulary, 2 MB, was left alone
    shown = here.run_process("check").out
    assert "budget   8.0 GB: `memory_gb`" in shown
    assert "at the hub: 3.0 GB, changed 2026-03-04" in shown


@pytest.mark.parametrize(("kilobytes", "is_read"), [(300, True), (600, False)])
def test_of_a_long_header_at_the_hub_no_more_than_512_kb_are_fetched(
    here: CliProject, hub: FakeHubApi, kilobytes: int, *, is_read: bool
) -> None:
    long = {"general.description": text("x" * kilobytes * 1024)}
    hub.add(REPO, "m.gguf", gguf(long | llama()), size=3 * GB)
    write_tiers(here, f"[a]\nhf_repo = {REPO}\nhf_file = m.gguf\nctx_size = 4k\n")
    assert run_check(here)["tiers"][0]["kv_known"] is is_read
    ranges = [asked for _, path, asked in hub.request_log if path.startswith("/storage/")]
    assert ranges == ["bytes=0-262143", "bytes=262144-524287"]


def test_wrong_repository_and_file_names_are_reported_with_a_hint(here: CliProject, hub: FakeHubApi) -> None:
    hub.add(REPO, "model-Q4_K_M.gguf", HEADER)
    hub.add("Closed/Model", "m.gguf", HEADER)
    hub.gated.add("Closed/Model")
    hub.renamed["Old/Name"] = REPO
    names = {
        "wrong-file": (REPO, "model-q4-k-m.gguf"),
        "wrong-repo": ("Nobody/Nothing", "m.gguf"),
        "gated": ("Closed/Model", "m.gguf"),
        "renamed": ("Old/Name", "model-Q4_K_M.gguf"),
    }
    write_tiers(
        here,
        "".join(f"[{tier}]\nhf_repo = {r}\nhf_file = {f}\nctx_size = 4k\n" for tier, (r, f) in names.items()),
    )
    result = run_check(here)
    hints = {
        p["tier"]: (p["message"], p["hint"]) for p in result["problems"] if "on disk" not in p["message"]
    }
    assert {tier: hints[tier] for tier in list(names)[:3]} == {
        "wrong-file": (
            f"{REPO} has no file model-q4-k-m.gguf",
            f"there is `model-Q4_K_M.gguf`; all of them: {hub.url}/{REPO}/tree/main",
        ),
        "wrong-repo": (
            "the hub has no repository Nobody/Nothing",
            f"look at {hub.url}/Nobody/Nothing; a private one needs HF_TOKEN",
        ),
        "gated": (
            "Closed/Model is gated: access has to be granted",
            f"ask for access at {hub.url}/Closed/Model, then set HF_TOKEN",
        ),
    }
    assert result["tiers"][3]["hub"]["size_bytes"] == len(HEADER)


def test_files_on_disk_are_compared_with_the_hub(here: CliProject, hub: FakeHubApi) -> None:
    same, cut, old = (HEADER + bytes(number) for number in (10, 20, 30))
    for name, content in {"same": same, "cut": cut, "old": old}.items():
        etag = hub.add(REPO, f"{name}.gguf", content)
        add_to_cache(here, f"{name}.gguf", content, etag)
    cut_blob = next((here.directory.parent / "cache").rglob("cut.gguf"))
    cut_blob.resolve().write_bytes(cut[:-5])
    hub.add(REPO, "old.gguf", HEADER + b"\1" * 30)
    hub.add(REPO, "queued.gguf", HEADER)
    write_tiers(
        here,
        "".join(
            f"[{name}]\nhf_repo = {REPO}\nhf_file = {name}.gguf\nctx_size = 4k\n"
            for name in ("same", "cut", "old")
        )
        + "hf_file_next = queued.gguf\n",
    )
    result = run_check(here)
    assert [tier["on_disk"] for tier in result["tiers"]] == [True] * 3
    assert (result["tiers"][2]["next"], result["tiers"][2]["next_on_disk"]) == ("queued.gguf", False)
    warnings = {
        problem["tier"]: problem["message"] for problem in result["problems"] if problem["level"] == "warning"
    }
    assert warnings == {
        "cut": f"cut.gguf has {len(cut) - 5} bytes on disk and {len(cut)} at the hub",
        "old": "the hub has another version of old.gguf",
    }
    assert not [path for _, path, _ in hub.request_log if path.startswith("/storage/")]  # headers are here


def test_the_size_of_a_sharded_file_is_the_sum_of_its_shards(here: CliProject, hub: FakeHubApi) -> None:
    names = [f"big-0000{number}-of-00002.gguf" for number in (1, 2)]
    for name in names:
        hub.add(REPO, name, HEADER, size=2 * GB)
    write_tiers(here, f"[a]\nhf_repo = {REPO}\nhf_file = {names[0]}\nctx_size = 4k\n")
    assert run_check(here)["tiers"][0]["size_bytes"] == 4 * GB


def test_a_damaged_file_and_a_model_larger_than_the_budget_are_reported(
    here: CliProject, hub: FakeHubApi
) -> None:
    (here.directory / "bad.gguf").write_bytes(HEADER[:100])
    hub.add(REPO, "big.gguf", HEADER, size=9 * GB)
    write_tiers(
        here,
        f"[bad]\npath = {here.directory}/bad.gguf\nctx_size = 4k\n"
        f"[big]\nhf_repo = {REPO}\nhf_file = big.gguf\nctx_size = 4k\n",
    )
    result = run_check(here)
    problems = {(problem["tier"], problem["level"]): problem for problem in result["problems"]}
    assert "the file ends inside its header" in problems["bad", "error"]["message"]
    assert problems["big", "warning"]["message"].endswith("GB of a budget of 8.0 GB: loaded by itself")
    assert "raise `memory_gb`" in problems["big", "warning"]["hint"]
    assert [(each["tiers"], each["fits"]) for each in result["combinations"]] == [
        (["bad"], True),
        (["big"], True),
    ]


def test_check_works_without_the_hub(here: CliProject, hub: FakeHubApi) -> None:
    named = f"hf_repo = {REPO}\nhf_file = a.gguf\nctx_size = 4k\n"
    write_tiers(here, f"[a]\n{named}size_gb = 2\n[b]\n{named}")

    def hub_messages(*flags: str) -> list[str]:
        result = run_check(here, *flags)
        assert [(tier["fits"], tier["hub"], tier["kv_known"]) for tier in result["tiers"]] == [
            (None, None, False)
        ] * 2
        return [problem["message"] for problem in result["problems"] if problem["tier"] is None]

    assert hub_messages("--offline") == []
    here.env["HF_HUB_OFFLINE"] = "1"
    assert hub_messages() == ["HF_HUB_OFFLINE is set: the hub was not queried"]
    here.env["HF_HUB_OFFLINE"] = "0"
    here.env["HF_ENDPOINT"] = f"http://127.0.0.1:{free_port()}"
    (message,) = hub_messages()
    assert message.startswith(f"{here.env['HF_ENDPOINT']} could not be reached: ")
    assert not hub.request_log
