"""Writing a project's files, and trusting what was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmstack.channel import CURRENT, NEXT, Channel, external, read_marker, write_marker
from llmstack.config import enable_hosted, load, parse, profile_text
from llmstack.config.model import BackendKind, Role
from llmstack.errors import LlmstackError, UsageError
from llmstack.files import exclusive, write_atomic
from llmstack.generators.opencode import agents_md, render
from llmstack.serving.memory.preflight import missing
from llmstack.serving.memory.survey import survey
from llmstack.stack.demo.models import build_demo_models, demo_models_of
from llmstack.stack.install.profile_choice import ProfileChoice, propose_profile
from llmstack.stack.lifecycle.generated_files import write_litellm
from llmstack.stack.project import queued_tiers, router_address, running_router
from llmstack.stack.remote.remote_router import fetch
from llmstack.trust import store as trust_store
from llmstack.trust.disclosure import programs
from llmstack.trust.fingerprint import fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.stack.remote.remote_router import Remote

GITIGNORE = "*\n!.gitignore\n!models.ini\n!litellm_config.yaml\n"


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """What to install.

    Attributes:
        channel: the pin; None keeps the one there is, and without one takes `$LLMSTACK_REMOTE_URL`.
        profile: bundled profile for the first models.ini; None means the one that fits this machine.
        hosted: enable the profile's hosted tier.
        trust: trust files that were there before without asking.
    """

    channel: Channel | None = None
    profile: str | None = None
    hosted: bool = False
    trust: bool = False


@dataclass(frozen=True, slots=True)
class InstallResult:
    """What `install` did.

    Attributes:
        written: files that were written; `kept` those of the user that stayed as they were.
        unavailable: tiers that cannot start yet, with reason and remedy.
        restart: the stack runs, and takes the new files up at the next `restart`.
        chosen: the profile that was chosen for this machine; None where nothing was to choose.
    """

    work_dir: Path
    channel: Channel
    written: list[Path]
    kept: list[Path]
    unavailable: dict[str, str]
    restart: bool
    chosen: ProfileChoice | None = None


def install(
    project: Project,
    user: UserDirs,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    consent: Callable[[list[str]], bool],
    hosted: Callable[[str], bool] = lambda _: False,
) -> InstallResult:
    """Write this project's files.

    Args:
        project: where; `.llmstack/` is made if it is missing.
        user: for the list of trusted projects and the demo's models.
        env: decides which tiers can start.
        options: what to write.
        consent: shown what files that were there before would run; True to trust them.
        hosted: shown the hosted model that a new models.ini could use at once; True to switch it on.

    Raises:
        LlmstackError: models.ini is wrong, nothing was written then; or trust was refused.
    """
    trust_store.refuse_undecodable(str(project.work_dir))
    if project.state.is_symlink() or project.state.exists():
        trust_store.refuse_unsafe_dir(project)
    pinned = read_marker(project.default_channel)
    url = env.get("LLMSTACK_REMOTE_URL")
    channel = options.channel or pinned or (external(url) if url else CURRENT)
    if channel.url is not None:
        return _install_thin_client(project, user, env, options, channel=channel, consent=consent)
    _settle_trust(project, user.trusted_projects, options, consent)
    fresh = not project.models_ini.exists() and options.profile is None
    chosen = propose_profile(user, env) if fresh else None
    text, config = _models_ini(project, user, env, options, chosen=chosen, hosted=hosted)
    if channel == NEXT:
        queued_tiers(config)
    # First: with no room for them, nothing is written.
    built = build_demo_models(demo_models_of(config, user.demo_models))
    with exclusive(project.lock, "install"):
        written, kept = _write(project, user, channel, text, config)
    written += built
    trust_store.grant(project, user.trusted_projects)
    running_config = config.on(channel.runs)
    return InstallResult(
        work_dir=project.work_dir,
        channel=channel,
        written=written,
        kept=kept,
        unavailable=survey(running_config, env).unavailable,
        restart=running_router(project) is not None,
        chosen=chosen,
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
    """Write the files of a project that uses the router of another; its models are not copied.

    Raises:
        LlmstackError: that router cannot be used, or this project's own one runs; nothing was written then.
    """
    if options.profile is not None or options.hosted:
        raise UsageError("a thin client has no models of its own: --profile and --hosted need --current")
    if running_router(project) is not None:
        raise LlmstackError("this project's own stack runs", hint="stop it first: `llmstack stop`")
    remote = fetch(str(channel.url), env)
    _settle_trust(project, user.trusted_projects, options, consent)
    with exclusive(project.lock, "install"):
        project.active_channel.unlink(missing_ok=True)
        written = write_client_files(project, render_remote(project, remote))
        write_marker(project.default_channel, channel)
    trust_store.grant(project, user.trusted_projects)
    kept = [project.models_ini] if project.models_ini.exists() else []
    return InstallResult(
        project.work_dir, channel, [*written, project.default_channel], kept, {}, restart=False
    )


def refetch(project: Project, store: Path, env: Mapping[str, str], url: str) -> None:
    """Write a thin client's opencode.json anew, and keep the project trusted.

    Raises:
        LlmstackError: the project is not trusted, or the router cannot be used.
    """
    trust_store.require(project, store)
    remote = fetch(url, env)
    with exclusive(project.lock, "reload"):
        write_atomic(project.opencode_json, render_remote(project, remote))
        trust_store.grant(project, store)


def render_remote(project: Project, remote: Remote, *, more_instructions: tuple[str, ...] = ()) -> str:
    """Return the opencode.json of a thin client."""
    return render(
        remote.config,
        base_url=remote.url,
        instructions=str(project.agents_md),
        more_instructions=more_instructions,
    )


def write_client_files(project: Project, opencode_json: str) -> list[Path]:
    """Write what clients read, and what git is to ignore."""
    files = {
        project.gitignore: GITIGNORE,
        project.agents_md: agents_md(),
        project.opencode_json: opencode_json,
    }
    for path, content in files.items():
        write_atomic(path, content)
    return [*files]


def _settle_trust(
    project: Project, store: Path, options: InstallOptions, consent: Callable[[list[str]], bool]
) -> None:
    """Ask about files that somebody else wrote; a new project and a trusted one ask nothing.

    Raises:
        LlmstackError: the answer was no.
    """
    if not project.state.is_dir() or trust_store.check(project, store).verdict is trust_store.Verdict.TRUSTED:
        return
    seen = fingerprint(project)
    if not seen:
        return
    shown = programs(project)
    if not options.trust and not consent(shown):
        raise LlmstackError(
            f"{project.state} has files that llmstack did not write, and they are not trusted",
            hint="read them, then `llmstack install --trust`",
        )
    trust_store.grant(project, store, seen=seen)


def _models_ini(
    project: Project,
    user: UserDirs,
    env: Mapping[str, str],
    options: InstallOptions,
    *,
    chosen: ProfileChoice | None,
    hosted: Callable[[str], bool],
) -> tuple[str | None, StackConfig]:
    """Return the text to write as models.ini, None where the user's own stays, and what it says."""
    source, base = str(project.models_ini), project.models_ini.parent
    if project.models_ini.exists():
        if options.profile is not None:
            raise LlmstackError(
                f"{project.models_ini} is there already, and it is yours",
                hint="move it away to start from a profile again",
            )
        there = load(project.models_ini)
        if not options.hosted or _has_hosted(there):
            return None, there
        text = enable_hosted(there.text)
        return text, parse(text, source, base=base)
    name = options.profile or (chosen.profile if chosen else "default")
    text = profile_text(name, demo_models=user.demo_models)
    if options.hosted or ((ready := _ready_model(text, source, base, env)) is not None and hosted(ready)):
        text = enable_hosted(text)
    return text, parse(text, source, base=base)


def _has_hosted(config: StackConfig) -> bool:
    """Return whether the ultra tier is on already."""
    return config.by_role(Role.ULTRA) is not None


def _ready_model(text: str, source: str, base: Path, env: Mapping[str, str]) -> str | None:
    """Return the hosted model that a profile could have switched on, where all that it needs is there."""
    try:
        could = parse(enable_hosted(text), source, base=base)
    except LlmstackError:  # a profile without such a tier
        return None
    tier = could.by_role(Role.ULTRA)
    if tier is None or tier.backend is not BackendKind.LITELLM or tier.name in missing(could, env):
        return None
    return tier.model.label


def refresh(project: Project, store: Path, config: StackConfig, *, models_ini: str | None = None) -> None:
    """Write again what follows from models.ini, and keep the project trusted if it was; the lock is held.

    Args:
        project: an installed project.
        store: the list of trusted projects.
        config: what models.ini says.
        models_ini: its new text, where it is to be written too.
    """
    trusted = trust_store.check(project, store).verdict is trust_store.Verdict.TRUSTED
    write_litellm(project, store, config)
    if models_ini is not None:
        write_atomic(project.models_ini, models_ini)
    write_atomic(project.opencode_json, render_opencode(project, config))
    if trusted:
        trust_store.grant(project, store)


def _write(
    project: Project, user: UserDirs, channel: Channel, text: str | None, config: StackConfig
) -> tuple[list[Path], list[Path]]:
    """Write what is generated, keep what is the user's."""
    kept = [] if text is not None else [project.models_ini]
    written = write_client_files(project, render_opencode(project, config))
    if text is not None:
        write_atomic(project.models_ini, text)
        written.append(project.models_ini)
    if (merged := write_litellm(project, user.trusted_projects, config)) is not None:
        written.append(merged)
    write_marker(project.default_channel, channel)
    return [*written, project.default_channel], kept


def render_opencode(project: Project, config: StackConfig, *, more_instructions: tuple[str, ...] = ()) -> str:
    """Return this project's opencode.json."""
    url = router_address(running_router(project), config).url
    return render(
        config,
        base_url=url,
        instructions=str(project.agents_md),
        more_instructions=more_instructions,
    )
