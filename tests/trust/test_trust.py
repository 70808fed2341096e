"""Trusting projects: grant, check, revoke and list."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from support.trusting import error_of, make_project, trust, verify

from llmstack import paths
from llmstack.paths import Project
from llmstack.trust import disclosure, fingerprint
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import read_files
from llmstack.trust.store import Trust, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_a_project_is_trusted_from_grant_to_revoke_unless_it_changes(
    project: Project, trust_file: Path
) -> None:
    hint = (
        f"run `llmstack trust` in {project.work_dir}: it shows what the project's files would run, then asks"
    )
    assert trust_store.check(project, trust_file) == Trust(Verdict.UNKNOWN)
    assert error_of(lambda: verify(project, trust_file)) == (
        f"this project is not trusted: {project.work_dir} | {hint}"
    )
    trust(project, trust_file)
    verify(project, trust_file)
    assert trust_store.check(project, trust_file) == Trust(Verdict.TRUSTED)
    project.opencode_json.write_text("{}")
    assert error_of(lambda: verify(project, trust_file)) == (
        f"changed since this project was trusted: opencode.json (in {project.work_dir}) | {hint}"
    )
    assert trust_store.revoke(project.work_dir, trust_file)
    assert not trust_store.revoke(project.work_dir, trust_file)
    assert trust_store.check(project, trust_file) == Trust(Verdict.UNKNOWN)


def test_the_trust_file_records_path_owner_and_digests(project: Project, trust_file: Path) -> None:
    trust(project, trust_file)
    trust(project, trust_file)
    document = tomllib.loads(trust_file.read_text())
    (record,) = document["project"]
    assert record.pop("trusted_at").tzinfo is not None
    owner = {} if sys.platform == "win32" else {"owner": project.state.stat().st_uid}
    assert record == {"path": str(project.work_dir), "files": fingerprint.fingerprint(project)} | owner
    assert sorted(record["files"]) == [
        "default-channel",
        "litellm_config.yaml",
        "models.ini",
        "opencode.json",
    ]
    if sys.platform != "win32":
        assert trust_file.stat().st_mode & 0o777 == 0o600


OTHER_FILES = {
    "default-channel": ("default-channel", "external http://evil.example\n", True),
    "opencode.json": ("opencode.json", "{}", True),
    "litellm_config.yaml": ("litellm_config.yaml", "litellm_settings: {callbacks: evil.x}\n", True),
    "a callback": ("evil.py", "print()", True),
    "a nested callback": ("deep/er/evil.py", "print()", True),
    "an included configuration": ("more.yaml", "x: y", True),
    "active-channel elsewhere": ("active-channel", "external http://evil.example\n", True),
    "active-channel next": ("active-channel", "next\n", False),
    "active-channel current": ("active-channel", "current\n", False),
    "agent's instructions": ("AGENTS.md", "Be quick.\n", False),
    "byte code": ("evil.pyc", "", True),
    "a native module": ("deep/evil.cpython-311-x86_64-linux-gnu.so", "", True),
    "capitals": ("more.YML", "x: y", True),
    "an import hook": ("site.pth", "import evil", True),
    "a pid file": ("router.pid", "{}", False),
    "a log": ("logs/router.log", "up\n", False),
}


@pytest.mark.parametrize(("name", "text", "requires_trust"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_changing_another_file_requires_trust_only_if_it_can_run_something(
    project: Project,
    trust_file: Path,
    name: str,
    text: str,
    requires_trust: bool,  # noqa: FBT001
) -> None:
    trust(project, trust_file)
    (project.state / name).parent.mkdir(parents=True, exist_ok=True)
    (project.state / name).write_text(text)
    expected = Trust(Verdict.CHANGED, (name,)) if requires_trust else Trust(Verdict.TRUSTED)
    assert trust_store.check(project, trust_file) == expected


def test_removing_a_file_does_not_require_trust(project: Project, trust_file: Path) -> None:
    project.default_channel.write_text("external http://a.example:1\n")
    project.active_channel.write_text("external http://a.example:1\n")
    trust(project, trust_file)
    project.active_channel.unlink()
    project.litellm_config.unlink()
    assert trust_store.check(project, trust_file) == Trust(Verdict.TRUSTED)


def test_a_moved_project_and_another_project_at_its_path_are_not_trusted(
    tmp_path: Path, project: Project, trust_file: Path
) -> None:
    trust(project, trust_file)
    project.work_dir.rename(tmp_path / "moved")
    moved = Project.at(tmp_path / "moved", {})
    assert trust_store.check(moved, trust_file) == Trust(Verdict.UNKNOWN)
    other = make_project(project.work_dir)
    other.models_ini.write_text("[x]\ncommand = evil\n")
    assert trust_store.check(other, trust_file) == Trust(Verdict.CHANGED, ("models.ini",))
    assert [trust for _, trust in trust_store.list_trusted(trust_file)] == [
        Trust(Verdict.CHANGED, ("models.ini",))
    ]


def test_a_models_ini_named_by_the_environment_counts_too(
    tmp_path: Path, project: Project, trust_file: Path
) -> None:
    own_ini = tmp_path / "own.ini"
    own_ini.write_text("[x]\ncommand = a\n")
    trust(project, trust_file)
    other = Project.at(project.work_dir, {"LLMSTACK_MODELS_INI": str(own_ini)})
    assert trust_store.check(other, trust_file) == Trust(Verdict.CHANGED, (str(own_ini),))
    trust(other, trust_file)
    assert (
        trust_store.check(other, trust_file)
        == trust_store.check(project, trust_file)
        == Trust(Verdict.TRUSTED)
    )
    assert disclosure.describe(read_files(other))[0] == "own.ini: [x] command = a"


def test_the_list_shows_each_project_with_its_trust_now(tmp_path: Path, trust_file: Path) -> None:
    first, second, third = (make_project(tmp_path / name) for name in ("a", "b", 'c "quoted" \x1b\x7f\n'))
    for project in (first, second, third):
        trust(project, trust_file)
    second.state.rename(tmp_path / "gone")
    assert [(record.path, trust) for record, trust in trust_store.list_trusted(trust_file)] == [
        (str(first.work_dir), Trust(Verdict.TRUSTED)),
        (str(second.work_dir), None),
        (str(third.work_dir), Trust(Verdict.TRUSTED)),
    ]
    assert trust_store.revoke(second.work_dir, trust_file)
    assert len(trust_store.list_trusted(trust_file)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_path_that_is_not_utf_8_cannot_be_trusted(
    tmp_path: Path, project: Project, trust_file: Path
) -> None:
    odd = make_project(tmp_path / "\udcff")
    assert error_of(lambda: trust(odd, trust_file)) == (
        f"cannot remember a name that is not UTF-8: {tmp_path}/\\udcff | rename it"
    )
    trust(project, trust_file)
    (project.state / "\udcff.py").write_text("")
    assert trust_store.check(project, trust_file) == Trust(Verdict.CHANGED, ("\udcff.py",))
    assert error_of(lambda: verify(project, trust_file)).startswith(
        "changed since this project was trusted: \\udcff.py (in "
    )
    assert error_of(lambda: trust(project, trust_file)) == (
        "cannot remember a name that is not UTF-8: \\udcff.py | rename it"
    )


def test_a_project_that_changed_while_it_was_shown_is_not_trusted(project: Project, trust_file: Path) -> None:
    before = fingerprint.fingerprint(project)
    project.opencode_json.write_text('{"plugin": ["evil"]}')
    assert error_of(lambda: trust_store.grant(project, trust_file, expected=before)) == (
        f"the project's files changed while you were asked: {project.work_dir}"
        " | look at them again: `llmstack trust`"
    )
    assert trust_store.check(project, trust_file) == Trust(Verdict.UNKNOWN)


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        "",
        "other = 1",
        "project = 'x'",
        "[[project]]\npath = 1",
        "[[project]]\npath = 'x'\ntrusted_at = 2026-01-01T00:00:00Z\n[project.files]\na = 1",
        "\udcff",
    ],
)
def test_a_broken_trust_file_is_an_error_and_is_not_overwritten(
    project: Project, trust_file: Path, text: str
) -> None:
    trust_file.parent.mkdir()
    trust_file.write_bytes(text.encode(errors="surrogateescape"))
    before = trust_file.read_bytes()
    for action in (
        lambda: trust_store.check(project, trust_file),
        lambda: trust(project, trust_file),
        lambda: trust_store.revoke(project.work_dir, trust_file),
        lambda: trust_store.list_trusted(trust_file),
    ):
        message = error_of(action)
        assert message.startswith(
            f"{trust_file}: expected the list of trusted projects, got something else: "
        )
        assert message.endswith(" | fix it, or delete it and trust your projects again with `llmstack trust`")
    assert trust_file.read_bytes() == before


def test_a_missing_state_dir_is_an_error(tmp_path: Path, trust_file: Path) -> None:
    project = Project.at(tmp_path, {})
    assert error_of(lambda: trust_store.check(project, trust_file)) == (
        f"no such directory: {tmp_path / '.llmstack'} | make a project of it: `llmstack install`"
    )
    project.state.write_text("")
    assert "is not a directory" in error_of(lambda: trust_store.check(project, trust_file))


GRANT_ALL = """
import sys
from pathlib import Path
from llmstack.trust import store as trust_store
from llmstack.trust.fingerprint import fingerprint
from llmstack.paths import Project
trust_file, *work_dirs = map(Path, sys.argv[1:])
for work_dir in work_dirs:
    project = Project.at(work_dir, {})
    trust_store.grant(project, trust_file, expected=fingerprint(project))
"""


def test_concurrent_grants_are_all_recorded(tmp_path: Path, trust_file: Path) -> None:
    work_dirs = [
        [make_project(tmp_path / f"{half}{number}").work_dir for number in range(10)] for half in "ab"
    ]
    processes = [subprocess.Popen([sys.executable, "-c", GRANT_ALL, trust_file, *half]) for half in work_dirs]
    assert [process.wait(60) for process in processes] == [0, 0]
    trust_by_path = {record.path: trust for record, trust in trust_store.list_trusted(trust_file)}
    assert trust_by_path == {str(path): Trust(Verdict.TRUSTED) for half in work_dirs for path in half}


def test_a_check_imports_only_the_standard_library(project: Project, trust_file: Path) -> None:
    trust(project, trust_file)
    code = (
        "import json, sys, types\nfrom pathlib import Path\n"
        "from llmstack.trust import store\n"
        "project = types.SimpleNamespace(work_dir=Path(sys.argv[1]), models_ini=Path(sys.argv[2]))\n"
        "store.check(project, Path(sys.argv[3]))\n"
        "print(json.dumps([name for name in sys.modules if getattr(sys.modules[name], '__file__', None)]))\n"
    )
    arguments = [str(project.work_dir), str(project.models_ini), str(trust_file)]
    result = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(project_root())},
    )
    loaded = {name.partition(".")[0] for name in json.loads(result.stdout)}
    assert loaded - set(sys.stdlib_module_names) - {"__main__"} == {"llmstack"}
    modules = {name for name in json.loads(result.stdout) if name.startswith("llmstack")}
    trust_modules = {
        f"llmstack.trust.{name}" for name in ("fingerprint", "models_ini", "plain_files", "store")
    }
    assert modules == {"llmstack", "llmstack.errors", "llmstack.trust", *trust_modules}


def project_root() -> Path:
    from pathlib import Path  # noqa: PLC0415 - elsewhere only used in annotations

    return Path(trust_store.__file__).parents[2]


def test_file_names_match_those_of_paths(project: Project) -> None:
    assert fingerprint.STATE_DIR == paths.STATE_DIR
    assert {project.state / name for name in fingerprint.WHOLE_FILES} == {
        project.default_channel,
        project.opencode_json,
        project.litellm_config,
    }
