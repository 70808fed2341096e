"""Installing a project: write its files and trust them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, NEXT, Channel, external, read_marker, write_marker
from llmstack.config import enable_hosted, load, parse, profile_text
from llmstack.config.model import BackendKind, Role
from llmstack.errors import LlmstackError, UsageError
from llmstack.files import exclusive_lock, write_atomic
from llmstack.serving.memory.preflight import find_obstacles
from llmstack.serving.memory.survey import survey
from llmstack.stack.demo.models import build_demo_models, find_demo_models
from llmstack.stack.install.profile_choice import ProfileChoice, choose_profile
from llmstack.stack.install.project_files import render_opencode, render_remote, write_client_files
from llmstack.stack.lifecycle.generated_files import write_litellm
from llmstack.stack.project import queued_tiers, running_router
from llmstack.stack.remote.remote_router import fetch_router
from llmstack.trust import store as trust_store
from llmstack.trust.disclosure import describe
from llmstack.trust.fingerprint import fingerprint

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
    if project.state.is_symlink() or project.state.exists():
        trust_store.refuse_unsafe_dir(project)
    pinned = read_marker(project.default_channel)
    url = env.get("LLMSTACK_REMOTE_URL")
    channel = options.channel or pinned or (external(url) if url else CURRENT)
    if channel.url is not None:
        return _install_thin_client(project, user, env, options, channel=channel, consent=consent)
    _ensure_trusted(project, user.trusted_projects, options, consent)
    needs_profile = not project.models_ini.exists() and options.profile is None
    choice = choose_profile(user, env) if needs_profile else None
    text, config = _make_models_ini(project, user, env, options, choice=choice, confirm_hosted=confirm_hosted)
    if channel == NEXT:
        queued_tiers(config)  # raises if nothing is queued
    # The models come first: if the disk is too full for them, no project file is written.
    built = build_demo_models(find_demo_models(config, user.demo_models))
    with exclusive_lock(project.lock, "install"):
        written, kept = _write_project_files(project, user, channel, text, config)
    written += built
    trust_store.grant(project, user.trusted_projects)
    running_config = config.for_channel(channel.local_channel)
    return InstallResult(
        work_dir=project.work_dir,
        channel=channel,
        written=written,
        kept=kept,
        unavailable=survey(running_config, env).unavailable,
        needs_restart=running_router(project) is not None,
        profile_choice=choice,
    )


def _install_thin_client(
    project: Project,
    user: UserDirs,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    channel: Channel,
    consent: Callable[[list[str]], bool],
) -> InstallResult:
    """Write the files of a project that uses another project's router; that one's models.ini is not copied.

    Raises:
        LlmstackError: that router cannot be used, or this project's own runs; nothing was written then.
    """
    if options.profile is not None or options.hosted:
        raise UsageError("a thin client has no models of its own: --profile and --hosted need --current")
    if running_router(project) is not None:
        raise LlmstackError("this project's own stack is running", hint="stop it first: `llmstack stop`")
    remote = fetch_router(str(channel.url), env)
    _ensure_trusted(project, user.trusted_projects, options, consent)
    with exclusive_lock(project.lock, "install"):
        project.active_channel.unlink(missing_ok=True)
        written = write_client_files(project, render_remote(project, remote))
        write_marker(project.default_channel, channel)
    trust_store.grant(project, user.trusted_projects)
    kept = [project.models_ini] if project.models_ini.exists() else []
    written.append(project.default_channel)
    return InstallResult(project.work_dir, channel, written, kept, unavailable={}, needs_restart=False)


def refresh_thin_client(project: Project, trust_file: Path, env: Mapping[str, str], url: str) -> None:
    """Write a thin client's opencode.json again, and keep the project trusted.

    Raises:
        LlmstackError: the project is not trusted, or the router cannot be used.
    """
    trust_store.require(project, trust_file)
    remote = fetch_router(url, env)
    with exclusive_lock(project.lock, "reload"):
        write_atomic(project.opencode_json, render_remote(project, remote))
        trust_store.grant(project, trust_file)


def _ensure_trusted(
    project: Project, trust_file: Path, options: InstallOptions, consent: Callable[[list[str]], bool]
) -> None:
    """Ask for consent to files that llmstack did not write, unless the project is new or trusted.

    Raises:
        LlmstackError: consent was refused.
    """
    if not project.state.is_dir():
        return
    if trust_store.check(project, trust_file).verdict is trust_store.Verdict.TRUSTED:
        return
    files = fingerprint(project)
    if not files:
        return
    effects = describe(project)
    if not options.trust and not consent(effects):
        raise LlmstackError(
            f"{project.state} has files that llmstack did not write, and they are not trusted",
            hint="read them, then `llmstack install --trust`",
        )
    trust_store.grant(project, trust_file, expected=files)


def _make_models_ini(
    project: Project,
    user: UserDirs,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    choice: ProfileChoice | None,
    confirm_hosted: Callable[[str], bool],
) -> tuple[str | None, StackConfig]:
    """Return the new text of models.ini, None to keep the user's own, and the parsed configuration."""
    source, base = str(project.models_ini), project.models_ini.parent
    if project.models_ini.exists():
        if options.profile is not None:
            raise LlmstackError(
                f"{project.models_ini} exists already, and is yours to edit",
                hint="move it away to start from a profile again",
            )
        current = load(project.models_ini)
        if not options.hosted or current.by_role(Role.ULTRA) is not None:
            return None, current
        text = enable_hosted(current.text)
        return text, parse(text, source, base=base)
    name = options.profile or (choice.profile if choice else "default")
    text = profile_text(name, demo_models=user.demo_models)
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


def _write_project_files(
    project: Project, user: UserDirs, channel: Channel, text: str | None, config: StackConfig
) -> tuple[list[Path], list[Path]]:
    """Write the generated files, and models.ini if `text` is not None; return paths written and kept."""
    kept = [] if text is not None else [project.models_ini]
    written = write_client_files(project, render_opencode(project, config))
    if text is not None:
        write_atomic(project.models_ini, text)
        written.append(project.models_ini)
    litellm_config = write_litellm(project, user.trusted_projects, config)
    if litellm_config is not None:
        written.append(litellm_config)
    write_marker(project.default_channel, channel)
    return [*written, project.default_channel], kept
