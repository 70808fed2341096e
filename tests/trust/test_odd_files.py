"""Files that are not regular files of the project itself: links, pipes, huge files, files of other users."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.trusting import error_of, posix, trust

from llmstack.paths import Project
from llmstack.trust import plain_files
from llmstack.trust import store as trust_store
from llmstack.trust.store import Trust, Verdict

if TYPE_CHECKING:
    from pathlib import Path


@posix
def test_a_state_dir_that_is_a_link_is_refused(tmp_path: Path, project: Project, trust_file: Path) -> None:
    other = Project.at(tmp_path / "other", {})
    other.work_dir.mkdir()
    other.state.symlink_to(project.state)
    for action in (
        lambda: trust_store.check(other, trust_file),
        lambda: trust(other, trust_file),
    ):
        assert error_of(action) == (
            f"{other.state} is a link to another place | remove the link, then run `llmstack install`"
        )


@posix
def test_trusting_a_link_to_a_work_dir_trusts_its_target(
    tmp_path: Path, project: Project, trust_file: Path
) -> None:
    (tmp_path / "link").symlink_to(project.work_dir)
    trust(Project.at(tmp_path / "link", {}), trust_file)
    assert trust_store.check(project, trust_file) == Trust(Verdict.TRUSTED)


@posix
@pytest.mark.parametrize("name", ["models.ini", "AGENTS.md", "logs", "zdotdir/.zshrc"])
@pytest.mark.parametrize("target", ["/etc", "/nowhere/at/all", "../../../outside"])
def test_a_link_that_leads_out_of_the_project_is_refused(
    project: Project, trust_file: Path, name: str, target: str
) -> None:
    path = project.state / name
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    path.symlink_to(target)
    assert error_of(lambda: trust_store.check(project, trust_file)) == (
        f"{path} is a link that leads out of the project | replace it with a file of its own"
    )


@posix
def test_the_target_of_a_link_within_the_project_counts(project: Project, trust_file: Path) -> None:
    project.models_ini.rename(project.work_dir / "models.ini")
    project.models_ini.symlink_to("../models.ini")
    trust(project, trust_file)
    (project.work_dir / "models.ini").write_text("[x]\ncommand = evil\n")
    assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("models.ini",))


@posix
def test_a_project_of_another_user_is_refused(project: Project, trust_file: Path) -> None:
    own_uid = os.getuid()
    other_uid = own_uid + 1
    message = error_of(lambda: trust_store.refuse_unsafe_dir(project, uid=other_uid))
    assert message == (
        f"{project.state} belongs to another user (user id {own_uid}, you are {other_uid})"
        " | work in a copy of your own, or change its owner once you have read what is in it"
    )
    trust_store.refuse_unsafe_dir(project, uid=0)  # root, in a project that one other user owns completely
    if own_uid:
        return  # only root can give files away
    trust(project, trust_file)
    os.chown(project.state, 4321, -1)
    assert "user id 4321, you are 0" in error_of(lambda: trust_store.check(project, trust_file))
    os.chown(project.work_dir, 4321, -1)
    assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("owner",))


@posix
def test_a_pipe_is_refused_without_waiting_for_a_writer(project: Project, trust_file: Path) -> None:
    trust(project, trust_file)
    project.opencode_json.unlink()
    os.mkfifo(project.opencode_json)
    message = f"{project.opencode_json} is not a plain file | remove it"
    assert error_of(lambda: trust_store.check(project, trust_file)) == message


def test_a_huge_file_is_refused(project: Project, trust_file: Path) -> None:
    trust(project, trust_file)
    with project.opencode_json.open("wb") as file:
        file.truncate(plain_files.MAX_BYTES + 1)
    message = f"{project.opencode_json} is larger than 4 MiB | remove it"
    assert error_of(lambda: trust_store.check(project, trust_file)) == message
