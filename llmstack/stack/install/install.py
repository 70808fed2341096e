"""Installing a project: write its files and trust them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, NEXT, Channel, external
from llmstack.config import enable_hosted, parse, parse_bytes, profile_text
from llmstack.config.model import BackendKind, Role
from llmstack.config.trusted import TrustedProject, parse_verified
from llmstack.errors import LlmstackError, UsageError
from llmstack.files import exclusive_lock
from llmstack.serving.memory.preflight import find_obstacles
from llmstack.serving.memory.survey import survey
from llmstack.stack.demo.models import build_demo_models, find_demo_models
from llmstack.stack.install.profile_choice import ProfileChoice, choose_profile
from llmstack.stack.install.project_files import client_files, render_opencode, render_remote
from llmstack.stack.lifecycle.generated_files import render_litellm
from llmstack.stack.project import queued_tiers, running_router
from llmstack.stack.remote.remote_router import fetch_router
from llmstack.trust import store as trust_store
from llmstack.trust.disclosure import describe
from llmstack.trust.fingerprint import MODELS_INI, ProjectFiles, read_files
from llmstack.trust.store import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """What to install.

    Attributes:
        channel: the channel to pin; None for the current pin, or else for `$LLMSTACK_REMOTE_URL`.
        profile: the bundled profile for a new models.ini; None to choose one that fits this machine.
        hosted: enable the profile's hosted tier.
        trust: trust existing files without asking.
    """

    channel: Channel | None = None
    profile: str | None = None
    hosted: bool = False
    trust: bool = False


@dataclass(frozen=True, slots=True)
class InstallResult:
    """The result of `install`.

    Attributes:
        written: files that were written.
        kept: files of the user that were left unchanged.
        unavailable: tiers that cannot start yet, with reason and remedy.
        needs_restart: the stack is running, and applies the new files at the next `restart`.
        profile_choice: the profile chosen for this machine; None if no choice was needed.
    """

    work_dir: Path
    channel: Channel
    written: list[Path]
    kept: list[Path]
    unavailable: dict[str, str]
    needs_restart: bool
    profile_choice: ProfileChoice | None = None


def install(
    project: Project,
    user: UserDirs,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    consent: Callable[[list[str]], bool],
    confirm_hosted: Callable[[str], bool] = lambda _: False,
) -> InstallResult:
    """Write a project's files.

    Args:
        project: the project; its `.llmstack/` is created if it is missing.
        user: for the list of trusted projects and the demo's models.
        env: decides which tiers can start.
        options: what to install.
        consent: called with what existing files would run; returns True to trust them.
        confirm_hosted: called with the hosted model that a new models.ini could use at once; returns True to
            enable it.

    Raises:
        LlmstackError: models.ini is wrong, or trust was refused; nothing was written then.
    """
    trust_store.refuse_undecodable(str(project.work_dir))
    trusted = _open(project, user, options, consent)
    url = env.get("LLMSTACK_REMOTE_URL")
    channel = options.channel or trusted.pinned or (external(url) if url else CURRENT)
    if channel.url is not None:
        return _install_thin_client(trusted, env, options, channel=channel)
    has_models = trusted.files.models_ini is not None
    choice = choose_profile(user, env) if not has_models and options.profile is None else None
    text, config = _make_models_ini(trusted, env, options, choice=choice, confirm_hosted=confirm_hosted)
    if channel == NEXT:
        queued_tiers(config)  # raises if nothing is queued
    # The models come first: if the disk is too full for them, no project file is written.
    built = build_demo_models(find_demo_models(config, user.demo_models))
    texts = {
        **client_files(project, render_opencode(project, config)),
        **({project.models_ini: text} if text is not None else {}),
        **render_litellm(trusted, config),
        project.default_channel: f"{channel}\n",
    }
    with exclusive_lock(project.lock, "install"):
        trusted.write(texts)
    running_config = config.for_channel(channel.local_channel)
    return InstallResult(
        work_dir=project.work_dir,
        channel=channel,
        written=[*texts, *built],
        kept=[] if text is not None else [project.models_ini],
        unavailable=survey(running_config, env).unavailable,
        needs_restart=running_router(project) is not None,
        profile_choice=choice,
    )


def _install_thin_client(
    trusted: TrustedProject, env: Mapping[str, str], options: InstallOptions, *, channel: Channel
) -> InstallResult:
    """Write the files of a project that uses another project's router; that one's models.ini is not copied.

    Raises:
        LlmstackError: that router cannot be used, or this project's own runs; nothing was written then.
    """
    if options.profile is not None or options.hosted:
        raise UsageError("a thin client has no models of its own: --profile and --hosted need --current")
    project = trusted.project
    if running_router(project) is not None:
        raise LlmstackError("this project's own stack is running", hint="stop it first: `llmstack stop`")
    remote = fetch_router(str(channel.url), env)
    texts = {
        **client_files(project, render_remote(project, remote)),
        project.default_channel: f"{channel}\n",
    }
    with exclusive_lock(project.lock, "install"):
        project.active_channel.unlink(missing_ok=True)
        trusted.write(texts)
    kept = [project.models_ini] if project.models_ini.exists() else []
    return InstallResult(project.work_dir, channel, [*texts], kept, unavailable={}, needs_restart=False)


def refresh_thin_client(trusted: TrustedProject, env: Mapping[str, str], url: str) -> None:
    """Write a thin client's opencode.json again; the project stays trusted.

    Raises:
        LlmstackError: the router cannot be used.
    """
    project, remote = trusted.project, fetch_router(url, env)
    with exclusive_lock(project.lock, "reload"):
        trusted.write({project.opencode_json: render_remote(project, remote)})


def _open(
    project: Project, user: UserDirs, options: InstallOptions, consent: Callable[[list[str]], bool]
) -> TrustedProject:
    """Return the project with its files, after asking for consent to those that llmstack did not write.

    Nothing that the files say is acted on before that: no address is contacted.

    Raises:
        LlmstackError: consent was refused.
    """
    if not project.state.is_dir() and not project.state.is_symlink():
        return parse_verified(project, user, ProjectFiles({}, MODELS_INI))
    trust_store.refuse_unsafe_dir(project)
    files = read_files(project)
    trust = trust_store.judge(project, files, user.trusted_projects)
    if files.contents and trust.verdict is not Verdict.TRUSTED:
        if not options.trust and not consent(describe(files)):
            raise LlmstackError(
                f"{project.state} has files that llmstack did not write, and they are not trusted",
                hint="read them, then `llmstack install --trust`",
            )
        trust_store.grant(project, user.trusted_projects, expected=files.digests())
    return parse_verified(project, user, files)


def _make_models_ini(
    trusted: TrustedProject,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    choice: ProfileChoice | None,
    confirm_hosted: Callable[[str], bool],
) -> tuple[str | None, StackConfig]:
    """Return the new text of models.ini, None to keep the user's own, and the parsed configuration."""
    path = trusted.project.models_ini
    source, base = str(path), path.parent
    if trusted.files.models_ini is not None:
        if options.profile is not None:
            raise LlmstackError(
                f"{path} exists already, and is yours to edit",
                hint="move it away to start from a profile again",
            )
        # A thin client that gets its own models back has a models.ini, too.
        current = trusted.declared or parse_bytes(trusted.files.models_ini, path)
        if not options.hosted or current.by_role(Role.ULTRA) is not None:
            return None, current
        text = enable_hosted(current.text)
        return text, parse(text, source, base=base)
    name = options.profile or (choice.profile if choice else "default")
    text = profile_text(name, demo_models=trusted.user.demo_models)
    enable = options.hosted
    if not enable:
        model = _usable_hosted_model(text, source, base, env)
        enable = model is not None and confirm_hosted(model)
    if enable:
        text = enable_hosted(text)
    return text, parse(text, source, base=base)


def _usable_hosted_model(text: str, source: str, base: Path, env: Mapping[str, str]) -> str | None:
    """Return the profile's hosted model if everything it needs is installed and set, else None."""
    try:
        config = parse(enable_hosted(text), source, base=base)
    except LlmstackError:  # the profile has no hosted tier
        return None
    tier = config.by_role(Role.ULTRA)
    if tier is None or tier.backend is not BackendKind.LITELLM or tier.name in find_obstacles(config, env):
        return None
    return tier.model.label
