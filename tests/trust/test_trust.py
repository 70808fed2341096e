"""Projects are trusted by what they would run: granted, changed, revoked, listed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest
from support.trusting import error_of, make

from llmstack import paths
from llmstack.paths import Project
from llmstack.trust import disclosure, fingerprint
from llmstack.trust import store as trust_store
from llmstack.trust.store import Trust, Verdict

if TYPE_CHECKING:
    from pathlib import Path


def test_a_project_is_trusted_once_granted_and_not_after_it_was_revoked(
    project: Project, store: Path
) -> None:
    hint = (
        f"run `llmstack trust` in {project.work_dir}: it shows what the project's files would run, then asks"
    )
    assert trust_store.check(project, store) == Trust(Verdict.UNKNOWN)
    assert error_of(lambda: trust_store.require(project, store)) == (
        f"this project is not trusted: {project.work_dir} | {hint}"
    )
    trust_store.grant(project, store)
    trust_store.require(project, store)
    assert trust_store.check(project, store) == Trust(Verdict.TRUSTED)
    project.opencode_json.write_text("{}")
    assert error_of(lambda: trust_store.require(project, store)) == (
        f"changed since this project was trusted: opencode.json (in {project.work_dir}) | {hint}"
    )
    assert trust_store.revoke(project.work_dir, store)
    assert not trust_store.revoke(project.work_dir, store)
    assert trust_store.check(project, store) == Trust(Verdict.UNKNOWN)


def test_what_is_remembered(project: Project, store: Path) -> None:
    trust_store.grant(project, store)
    trust_store.grant(project, store)
    document = tomllib.loads(store.read_text())
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
        assert store.stat().st_mode & 0o777 == 0o600


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
    "generated at each start": ("llama-swap.yaml", "models: {}\n", False),
    "a pid file": ("router.pid", "{}", False),
    "a log": ("logs/router.log", "up\n", False),
}


@pytest.mark.parametrize(("name", "text", "asks"), OTHER_FILES.values(), ids=OTHER_FILES)
def test_other_files(project: Project, store: Path, name: str, text: str, asks: bool) -> None:  # noqa: FBT001
    trust_store.grant(project, store)
    (project.state / name).parent.mkdir(parents=True, exist_ok=True)
    (project.state / name).write_text(text)
    expected = Trust(Verdict.CHANGED, (name,)) if asks else Trust(Verdict.TRUSTED)
    assert trust_store.check(project, store) == expected


def test_a_file_that_is_gone_asks_nothing(project: Project, store: Path) -> None:
    project.default_channel.write_text("external http://a.example:1\n")
    project.active_channel.write_text("external http://a.example:1\n")
    trust_store.grant(project, store)
    project.active_channel.unlink()
    project.litellm_config.unlink()
    assert trust_store.check(project, store) == Trust(Verdict.TRUSTED)


def test_another_place_or_another_project_in_the_same_place(
    tmp_path: Path, project: Project, store: Path
) -> None:
    trust_store.grant(project, store)
    project.work_dir.rename(tmp_path / "moved")
    moved = Project.at(tmp_path / "moved", {})
    assert trust_store.check(moved, store) == Trust(Verdict.UNKNOWN)
    other = make(project.work_dir)
    other.models_ini.write_text("[x]\ncommand = evil\n")
    assert trust_store.check(other, store) == Trust(Verdict.CHANGED, ("models.ini",))
    assert [found for _, found in trust_store.entries(store)] == [Trust(Verdict.CHANGED, ("models.ini",))]


def test_a_models_ini_from_the_environment_counts_too(tmp_path: Path, project: Project, store: Path) -> None:
    mine = tmp_path / "mine.ini"
    mine.write_text("[x]\ncommand = a\n")
    trust_store.grant(project, store)
    other = Project.at(project.work_dir, {"LLMSTACK_MODELS_INI": str(mine)})
    assert trust_store.check(other, store) == Trust(Verdict.CHANGED, (str(mine),))
    trust_store.grant(other, store)
    assert trust_store.check(other, store) == trust_store.check(project, store) == Trust(Verdict.TRUSTED)
    assert disclosure.programs(other)[0] == "mine.ini: [x] command = a"


def test_the_list(tmp_path: Path, store: Path) -> None:
    first, second, third = (make(tmp_path / name) for name in ("a", "b", 'c "quoted" \x1b\x7f\n'))
    for project in (first, second, third):
        trust_store.grant(project, store)
    second.state.rename(tmp_path / "gone")
    assert [(record.path, found) for record, found in trust_store.entries(store)] == [
        (str(first.work_dir), Trust(Verdict.TRUSTED)),
        (str(second.work_dir), None),
        (str(third.work_dir), Trust(Verdict.TRUSTED)),
    ]
    assert trust_store.revoke(second.work_dir, store)
    assert len(trust_store.entries(store)) == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_name_that_is_not_text(tmp_path: Path, project: Project, store: Path) -> None:
    odd = make(tmp_path / "\udcff")
    assert error_of(lambda: trust_store.grant(odd, store)) == (
        f"cannot remember a name that is not UTF-8: {tmp_path}/\\udcff | rename it"
    )
    trust_store.grant(project, store)
    (project.state / "\udcff.py").write_text("")
    assert trust_store.check(project, store) == Trust(Verdict.CHANGED, ("\udcff.py",))
    assert error_of(lambda: trust_store.require(project, store)).startswith(
        "changed since this project was trusted: \\udcff.py (in "
    )
    assert error_of(lambda: trust_store.grant(project, store)) == (
        "cannot remember a name that is not UTF-8: \\udcff.py | rename it"
    )


def test_what_changed_while_it_was_shown_is_not_trusted(project: Project, store: Path) -> None:
    seen = fingerprint.fingerprint(project)
    project.opencode_json.write_text('{"plugin": ["evil"]}')
    assert error_of(lambda: trust_store.grant(project, store, seen=seen)) == (
        f"the project's files changed while you were asked: {project.work_dir}"
        " | look at them again: `llmstack trust`"
    )
    assert trust_store.check(project, store) == Trust(Verdict.UNKNOWN)


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
def test_a_broken_list_is_an_error_and_stays_as_it_is(project: Project, store: Path, text: str) -> None:
    store.parent.mkdir()
    store.write_bytes(text.encode(errors="surrogateescape"))
    before = store.read_bytes()
    for action in (
        lambda: trust_store.check(project, store),
        lambda: trust_store.grant(project, store),
        lambda: trust_store.revoke(project.work_dir, store),
        lambda: trust_store.entries(store),
    ):
        message = error_of(action)
        assert message.startswith(f"{store}: expected the list of trusted projects, got something else: ")
        assert message.endswith(
            " | mend it, or delete it and trust your projects again with `llmstack trust`"
        )
    assert store.read_bytes() == before


def test_no_project(tmp_path: Path, store: Path) -> None:
    project = Project.at(tmp_path, {})
    assert error_of(lambda: trust_store.check(project, store)) == (
        f"no such directory: {tmp_path / '.llmstack'} | make a project of it: `llmstack install`"
    )
    project.state.write_text("")
    assert "is not a directory" in error_of(lambda: trust_store.check(project, store))


GRANT_ALL = """
import sys
from pathlib import Path
from llmstack.trust import store as trust_store
from llmstack.paths import Project
store, *work_dirs = map(Path, sys.argv[1:])
for work_dir in work_dirs:
    trust_store.grant(Project.at(work_dir, {}), store)
"""


def test_two_at_once_lose_nothing(tmp_path: Path, store: Path) -> None:
    work_dirs = [[make(tmp_path / f"{half}{number}").work_dir for number in range(10)] for half in "ab"]
    processes = [subprocess.Popen([sys.executable, "-c", GRANT_ALL, store, *half]) for half in work_dirs]
    assert [process.wait(60) for process in processes] == [0, 0]
    listed = {record.path: found for record, found in trust_store.entries(store)}
    assert listed == {str(path): Trust(Verdict.TRUSTED) for half in work_dirs for path in half}


def test_a_check_imports_the_standard_library_alone(project: Project, store: Path) -> None:
    trust_store.grant(project, store)
    code = (
        "import json, sys, types\nfrom pathlib import Path\n"
        "from llmstack.trust import store\n"
        "project = types.SimpleNamespace(work_dir=Path(sys.argv[1]), models_ini=Path(sys.argv[2]))\n"
        "store.require(project, Path(sys.argv[3]))\n"
        "print(json.dumps([name for name in sys.modules if getattr(sys.modules[name], '__file__', None)]))\n"
    )
    arguments = [str(project.work_dir), str(project.models_ini), str(store)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *arguments],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(project_root())},
    )
    loaded = {name.partition(".")[0] for name in json.loads(done.stdout)}
    assert loaded - set(sys.stdlib_module_names) - {"__main__"} == {"llmstack"}
    modules = {name for name in json.loads(done.stdout) if name.startswith("llmstack")}
    trust = {"llmstack.trust", "llmstack.trust.fingerprint", "llmstack.trust.store"}
    assert modules == {"llmstack", "llmstack.errors", *trust}


def project_root() -> Path:
    from pathlib import Path  # noqa: PLC0415  used for annotations alone elsewhere

    return Path(trust_store.__file__).parents[2]


def test_names_are_those_of_paths(project: Project) -> None:
    assert fingerprint.STATE_DIR == paths.STATE_DIR
    assert {project.state / name for name in fingerprint.WHOLE_FILES} == {
        project.default_channel,
        project.opencode_json,
        project.litellm_config,
    }
