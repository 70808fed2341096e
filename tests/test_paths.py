from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.errors import LlmstackError
from llmstack.paths import Project, UserDirs, find_project


def test_files_of_a_project(tmp_path: Path) -> None:
    project = Project.at(tmp_path / "app", {})
    names = {
        str(path.relative_to(tmp_path / "app" / ".llmstack"))
        for path in (
            *(
                project.models_ini,
                project.gitignore,
                project.opencode_json,
                project.agents_md,
                project.litellm_config,
            ),
            *(project.default_channel, project.active_channel, project.lock, project.router_pid),
            *(project.log("router"), project.pid_file("model-a")),
        )
    }
    assert names == {
        *("models.ini", ".gitignore", "opencode.json", "AGENTS.md", "litellm_config.yaml", "default-channel"),
        *("active-channel", "lock", "router.pid", "logs/router.log", "model-a.pid"),
    }
    assert project.name == "app"
    assert Project.at(Path("/"), {}).name == "/"
    assert not project.state.exists()


def test_a_relative_directory_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    project = Project.at(Path("app"), {"LLMSTACK_MODELS_INI": "~/m.ini"})
    assert project.work_dir == tmp_path / "app"
    assert project.models_ini == Path.home() / "m.ini"


def test_the_nearest_project_upwards(tmp_path: Path) -> None:
    deep = tmp_path / "outer" / "inner" / "src"
    deep.mkdir(parents=True)
    assert find_project({}, deep) is None
    (tmp_path / "outer" / ".llmstack").mkdir()
    (tmp_path / "outer" / "inner" / ".llmstack").touch()  # a file is none
    found = find_project({}, deep)
    assert found is not None
    assert found.work_dir == tmp_path / "outer"


def test_the_named_project(tmp_path: Path) -> None:
    found = find_project({"LLMSTACK_WORK_DIR": str(tmp_path)}, Path("/"))
    assert found is not None
    assert found.work_dir == tmp_path
    with pytest.raises(LlmstackError, match="LLMSTACK_WORK_DIR: expected a directory, got `/no/such`"):
        find_project({"LLMSTACK_WORK_DIR": "/no/such"}, tmp_path)


def test_directories_of_the_user() -> None:
    home = Path.home()
    dirs = UserDirs.from_env({})
    for path in (dirs.data, dirs.cache, dirs.state, dirs.bin, dirs.trusted_projects, dirs.demo_models):
        assert path.is_relative_to(home)
        assert "llmstack" in path.parts
    assert UserDirs.from_env({"LLMSTACK_BIN_DIR": "~/b"}).bin == home / "b"
