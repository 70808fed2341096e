from __future__ import annotations

from pathlib import Path

import pytest

from llmstack.errors import LlmstackError
from llmstack.paths import Project, UserDirs, find_project


def test_a_project_has_its_files_in_its_state_dir(tmp_path: Path) -> None:
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


def test_the_nearest_project_upwards_is_found(tmp_path: Path) -> None:
    deep = tmp_path / "outer" / "inner" / "src"
    deep.mkdir(parents=True)
    assert find_project({}, deep) is None
    (tmp_path / "outer" / ".llmstack").mkdir()
    (tmp_path / "outer" / "inner" / ".llmstack").touch()  # a file does not count
    project = find_project({}, deep)
    assert project is not None
    assert project.work_dir == tmp_path / "outer"


def test_the_project_of_the_environment_variable_is_used(tmp_path: Path) -> None:
    project = find_project({"LLMSTACK_WORK_DIR": str(tmp_path)}, Path("/"))
    assert project is not None
    assert project.work_dir == tmp_path
    with pytest.raises(LlmstackError, match="LLMSTACK_WORK_DIR: expected a directory, got `/no/such`"):
        find_project({"LLMSTACK_WORK_DIR": "/no/such"}, tmp_path)


def test_user_directories_are_in_the_home_directory() -> None:
    home = Path.home()
    dirs = UserDirs.from_env({})
    for path in (dirs.data, dirs.cache, dirs.state, dirs.bin, dirs.trusted_projects, dirs.demo_models):
        assert path.is_relative_to(home)
        assert "llmstack" in path.parts
    assert UserDirs.from_env({"LLMSTACK_BIN_DIR": "~/b"}).bin == home / "b"
