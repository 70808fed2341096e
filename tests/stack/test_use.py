"""`use TIER MODEL` changes models.ini, with its comments kept, if the model answers a probe."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from support.net import free_port
from support.project import CliProject
from support.providers import KEY, provider
from support.trusting import trust as grant

from llmstack.channel import CURRENT, Channel, write_marker
from llmstack.config import StackConfig, parse_bytes
from llmstack.config.trusted import open_trusted
from llmstack.errors import ConfigError, LlmstackError, UsageError
from llmstack.paths import Project, UserDirs
from llmstack.stack.install.use import UseResult, use

if TYPE_CHECKING:
    from pathlib import Path

TIERS = """
[local]   ; mine
aliases = near
model = ollama/old      ; a good one
base_url = http://127.0.0.1:1/
model_next = ollama/newer
ctx_size = 8k

[hosted]
backend = server
model = openai/gpt-4o
ctx_size = 8k

[lite]
model = openai/gpt-4o
ctx_size = 8k

[file]
role = agent
hf_repo = owner/name-GGUF   ; the weights
hf_file = a.gguf
threads = 4
ctx_size = 8k
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    cli = CliProject(tmp_path / "project")
    cli.write(tiers=(), extra=TIERS)
    project = Project.at(cli.directory, {})
    write_marker(project.default_channel, CURRENT)
    trust(project)
    return project


def trust(project: Project) -> None:
    grant(project, UserDirs.from_env(os.environ).trusted_projects)


def load(project: Project) -> StackConfig:
    return parse_bytes(project.models_ini.read_bytes(), project.models_ini)


def use_model(
    project: Project, tier: str, model: str, env: dict[str, str] | None = None, *, force: bool = False
) -> UseResult:
    trusted = open_trusted(project, UserDirs.from_env(os.environ))
    return use(trusted, env or {}, tier, model, force=force)


def test_a_model_that_answers_is_written_to_models_ini(project: Project) -> None:
    with provider("local") as fake:
        before = project.models_ini.read_text().replace("127.0.0.1:1/", fake.url.removeprefix("http://"))
        project.models_ini.write_text(before)
        trust(project)
        result = use_model(project, "near", "ollama/new")
    assert result == UseResult("local", "ollama/old", "ollama/new", ("model_next",), None, None)
    assert project.models_ini.read_text() == before.replace(
        "model = ollama/old      ; a good one", "model = ollama/new      ; a good one"
    ).replace("model_next =", ";model_next =")
    assert fake.last["messages"][0]["content"] == "Answer with the word OK."


@pytest.mark.parametrize(
    ("tier", "model", "message"),
    [
        ("local", "ollama/new", r"^local keeps ollama/old: ollama/new was asked, and nothing answers at "),
        ("hosted", "anthropic/opus", r"asked, and anthropic needs a key, and ANTHROPIC_API_KEY is not set$"),
        ("lite", "bedrock/x", r"asked, and no provider is called `bedrock`$"),
        ("nowhere", "ollama/new", "no tier is called `nowhere`"),
    ],
)
def test_a_probe_that_fails_changes_nothing(project: Project, tier: str, model: str, message: str) -> None:
    before = project.models_ini.read_text()
    with pytest.raises(LlmstackError, match=message):
        use_model(project, tier, model)
    assert project.models_ini.read_text() == before


def test_any_error_of_the_provider_keeps_the_old_model(project: Project) -> None:
    with provider("openai") as fake:
        env = {"OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": KEY}
        for status in (401, 404, 429, 500):
            fake.failures = [(status, "")]
            with pytest.raises(LlmstackError, match=f"hosted keeps openai/gpt-4o: .* answered {status}"):
                use_model(project, "hosted", "openai/gpt-5.2", env)
        assert len(fake.requests) == 4
        assert use_model(project, "hosted", "openai/gpt-5.2", env).new_model == "openai/gpt-5.2"


def test_force_writes_a_model_that_does_not_answer(project: Project) -> None:
    result = use_model(project, "lite", "bedrock/x", force=True)
    assert (result.new_model, result.probe_error) == ("bedrock/x", "no provider is called `bedrock`")
    assert load(project).tiers["lite"].model.label == "bedrock/x"


def test_a_gguf_tier_becomes_hosted_and_its_file_is_commented_out(project: Project) -> None:
    with provider("anthropic") as fake:
        env = {"ANTHROPIC_BASE_URL": fake.url, "ANTHROPIC_API_KEY": KEY}
        result = use_model(project, "file", "anthropic/sonnet", env)
    assert result.disabled_keys == ("hf_repo", "hf_file", "threads")
    text = project.models_ini.read_text()
    assert ";hf_repo = owner/name-GGUF   ; the weights\n;hf_file = a.gguf\n;threads = 4\n" in text
    tier = load(project).tiers["file"]
    assert (str(tier.backend), tier.model.label) == ("server", "anthropic/claude-sonnet-4-6")
    assert KEY not in text


def test_another_provider_does_not_inherit_the_address(project: Project) -> None:
    with provider("local") as fake:
        result = use_model(project, "local", "vllm/new", {"VLLM_BASE_URL": fake.url})
    assert result.disabled_keys == ("base_url", "model_next")
    assert load(project).tiers["local"].model.label == "vllm/new"


def test_the_router_itself_is_refused_as_a_model(project: Project) -> None:
    own = f"http://127.0.0.1:{load(project).settings.router_port}"
    with pytest.raises(LlmstackError, match="is this router's own address"):
        use_model(project, "hosted", "openai/x", {"OPENAI_BASE_URL": own})


def test_a_running_stack_is_reloaded(tmp_path: Path) -> None:
    cli = CliProject(tmp_path / "project")
    with provider("local") as fake:
        cli.env["OLLAMA_BASE_URL"] = fake.url
        tier = "model = ollama/old\nctx_size = 8k\n"
        cli.install(tiers=(), extra=f"[near]\nrole = fast\n{tier}[other]\n{tier}")
        cli.start("--detach")
        try:
            assert cli.answer("hello", "near") == "You said: hello."
            assert fake.last["model"] == "old"
            done = cli.run("use", "near", "ollama/new").check()
            assert done.out == "near: ollama/old -> ollama/new\n"
            assert done.err == "reloaded; tiers that changed: near\n"
            assert cli.answer("hello", "near") == "You said: hello."
            assert fake.last["model"] == "new"
            fake.failures = [(500, "")]
            assert cli.run("use", "near", "ollama/newer").code == 1
            assert cli.answer("hello", "near") == "You said: hello."
            assert fake.last["model"] == "new"
            wants = "mistral needs a key, and MISTRAL_API_KEY is not set"
            forced = cli.run("use", "other", "mistral/small", "--force").check()
            assert forced.err.startswith(f"warning: mistral/mistral-medium-latest was asked, and {wants}\n")
            assert f"warning: other cannot start: {wants}" in forced.err
            before = (cli.state / "models.ini").read_text()
            last = cli.run("use", "near", "mistral/small", "--force")  # no tier would be left
            assert (last.code, "error: near keeps ollama/new: no tier could start: " in last.err) == (1, True)
            assert (cli.state / "models.ini").read_text() == before
            assert "tiers that changed: none\n" in cli.run("reload").check().err
        finally:
            cli.run("stop").check()


def test_an_unusable_model_or_project_is_refused(project: Project) -> None:
    with pytest.raises(UsageError, match="MODEL: expected `<provider>/<id>`, got `nonsense`"):
        use_model(project, "local", "nonsense")
    with pytest.raises(UsageError, match="`openai-compat/` is reserved"):
        use_model(project, "local", "openai-compat/x")
    write_marker(project.default_channel, Channel("external", f"http://127.0.0.1:{free_port()}"))
    trust(project)
    with pytest.raises(LlmstackError, match="is a thin client"):
        use_model(project, "local", "ollama/new")


def test_an_invalid_models_ini_is_not_written(project: Project) -> None:
    text = project.models_ini.read_text()
    project.models_ini.write_text(text + "[other]\nctx_size = 8k\n")
    with pytest.raises(ConfigError):
        use_model(project, "local", "ollama/new")
