"""What sends prompts to another machine than before requires trust, by its effect and not by its key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.trusting import posix, trust

from llmstack.trust import models_ini
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import read_files
from llmstack.trust.store import Trust, Verdict

if TYPE_CHECKING:
    from pathlib import Path

    from llmstack.paths import Project

LOCAL = """\
[ROUTING]
multi_turn = 10
[quick]
role = fast
path = /models/a.gguf
ctx_size = 8k
[clever]
role = agent
hf_repo = a/b
hf_file = c.gguf
aliases = smart
ctx_size = 8k
"""
HOSTED = """\
[cloud]
model = anthropic/opus
aliases = big
ctx_size = 200k
"""
SPARE = LOCAL + HOSTED  # hosted, and used only if it is named
ROUTED = LOCAL + HOSTED.replace("[cloud]", "[cloud]\nrole = ultra")

ASKED = {
    "a role moves to a hosted tier": (SPARE, ("[cloud]", "[cloud]\nrole = ultra")),
    "a role moves from a local tier to a hosted one": (
        SPARE,
        ("role = agent\n", ""),
        ("[cloud]", "[cloud]\nrole = agent"),
    ),
    "a fallback leads to a hosted tier": (SPARE, ("role = fast", "role = fast\nfallback = cloud")),
    "a fallback leads there by an alias": (SPARE, ("role = fast", "role = fast\nfallback = big")),
    "a fallback leads there by another tier": (
        SPARE.replace("role = agent", "role = agent\nfallback = cloud"),
        ("role = fast", "role = fast\nfallback = smart"),
    ),
    "an alias moves to a hosted tier": (SPARE, ("aliases = smart\n", ""), ("big", "big, smart")),
    "a ceiling moves prompts to the hosted tier": (
        ROUTED,
        ("multi_turn = 10", "multi_turn = 10\nhigh_fidelity_ceiling = 90k"),
    ),
    "triggers": (ROUTED, ("multi_turn = 10", "ultra_triggers = the")),
    "turns": (ROUTED, ("multi_turn = 10", "multi_turn = 1")),
    "a smaller window": (ROUTED, ("ctx_size = 8k\n[clever]", "ctx_size = 2k\n[clever]")),
    "a hosted fallback's provider": (
        SPARE.replace("role = fast", "role = fast\nfallback = cloud"),
        ("anthropic/opus", "openai/x"),
    ),
    "a fallback in quotes": (SPARE, ("role = fast", 'role = fast\nfallback = "cloud"')),
    "a fallback behind what may be a comment": (
        SPARE,
        ("role = fast", "role = fast\nfallback = clever ;cloud"),
    ),
}
NOT_ASKED = {
    "a local role moves": (
        SPARE,
        ("role = fast", "role = x"),
        ("role = agent", "role = fast"),
        ("= x", "= agent"),
    ),
    "a local fallback": (SPARE, ("role = fast", "role = fast\nfallback = clever")),
    "a local alias": (SPARE, ("aliases = smart", "aliases = smart, s")),
    "ceilings if every role is local": (SPARE, ("multi_turn = 10", "multi_turn = 1\nultra_triggers = x")),
    "a window if every role is local": (SPARE, ("ctx_size = 8k\n[clever]", "ctx_size = 2k\n[clever]")),
    "a local tier is renamed": (SPARE, ("[quick]", "[rapid]")),
    "a hosted model of the same provider": (ROUTED, ("anthropic/opus", "anthropic/sonnet")),
    "order of aliases": (SPARE.replace("big", "big, huge"), ("big, huge", "huge, big")),
    "samplers beside a hosted role": (ROUTED, ("role = fast", "role = fast\nsampler = temp=0.1")),
}


def verdict_after(project: Project, trust_file: Path, before: str, *edits: tuple[str, str]) -> Trust:
    project.models_ini.write_text(before)
    trust(project, trust_file)
    after = before
    for old, new in edits:
        assert old in after
        after = after.replace(old, new, 1)
    project.models_ini.write_text(after)
    return trust_store.check(project, trust_file)


@pytest.mark.parametrize("case", ASKED.values(), ids=ASKED)
def test_an_edit_that_sends_prompts_elsewhere_asks(
    project: Project, trust_file: Path, case: tuple[str, *tuple[tuple[str, str], ...]]
) -> None:
    assert verdict_after(project, trust_file, *case) == Trust(Verdict.CHANGED, ("models.ini",))


@pytest.mark.parametrize("case", NOT_ASKED.values(), ids=NOT_ASKED)
def test_an_edit_that_leaves_prompts_where_they_go_does_not_ask(
    project: Project, trust_file: Path, case: tuple[str, *tuple[tuple[str, str], ...]]
) -> None:
    assert verdict_after(project, trust_file, *case) == Trust(Verdict.TRUSTED)


def test_where_prompts_go_is_shown() -> None:
    text = ROUTED.replace("role = fast", "role = fast\nfallback = big")
    view = models_ini.security_view(text.encode())
    assert view is not None
    assert [str(route) for route in view.routes] == [
        "prompts for role fast, quick go to anthropic, this machine",
        "prompts for role ultra, cloud, big go to anthropic",
    ]


@posix
def test_python_behind_a_link_to_a_directory_counts(project: Project, trust_file: Path) -> None:
    source = project.work_dir / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep" / "hook.py").write_text("a = 1\n")
    (project.state / "hooks").symlink_to("../source")
    (source / "loop").symlink_to("..")
    trust(project, trust_file)
    assert "hooks/deep/hook.py" in read_files(project).contents
    (source / "deep" / "hook.py").write_text("evil = 1\n")
    changed = trust_store.check(project, trust_file).changed
    assert "hooks/deep/hook.py" in changed


def test_more_than_can_be_held_in_memory_is_refused(project: Project, trust_file: Path) -> None:
    for number in range(9):
        with (project.state / f"m{number}.so").open("wb") as file:
            file.truncate(4 * 1024 * 1024)
    with pytest.raises(Exception, match="has more than 32 MiB of files that count for trust"):
        trust_store.check(project, trust_file)


def test_a_forest_of_files_is_refused_instead_of_read(project: Project, trust_file: Path) -> None:
    (project.state / "packages").mkdir()
    for number in range(2001):
        (project.state / "packages" / f"m{number}.py").touch()
    with pytest.raises(Exception, match="more than 2000 files that LiteLLM could load"):
        trust_store.check(project, trust_file)
