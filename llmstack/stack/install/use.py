"""Pointing a tier at another model: it is asked first, and the old one stays where it does not answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.config import parse
from llmstack.config.edit import switched_off, with_value
from llmstack.config.ini import scan
from llmstack.config.model import DIRECT_PROVIDERS, LOCAL_SERVERS, BackendKind, HostedModel
from llmstack.config.schema import COMMON, LIMITS, OF_BACKEND
from llmstack.config.values import BadValueError, hosted
from llmstack.errors import LlmstackError, UsageError
from llmstack.files import exclusive
from llmstack.providers.model_aliases import load as load_known
from llmstack.stack.ask import own_addresses
from llmstack.stack.install.install import refresh
from llmstack.stack.lifecycle.reload import Reloaded, reload
from llmstack.stack.project import local_config, running_router
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.paths import Project, UserDirs

PROBE = "Answer with the word OK."
PROBE_S = 30.0  # a local server may have to load the model first
PROBE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class Used:
    """What `use` did.

    Attributes:
        before: the model the tier had; `after` the one it has.
        off: keys of models.ini that do not fit the new model, and are comments now.
        unproved: why the model could not be asked, where it was forced.
        reloaded: what the running stack did with it; None where none runs.
    """

    tier: str
    before: str
    after: str
    off: tuple[str, ...]
    unproved: str | None
    reloaded: Reloaded | None


def use(
    project: Project, user: UserDirs, env: Mapping[str, str], name: str, model: str, *, force: bool
) -> Used:
    """Point a tier at `<provider>/<id>`, in models.ini, its comments kept.

    Raises:
        LlmstackError: there is no such tier, the model does not answer, models.ini would be wrong with it, or
            the running stack does not take it up; nothing has changed then.
    """
    config = local_config(project)
    trust_store.require(project, user.trusted_projects)
    tier = config.find(name)
    if tier is None:
        raise LlmstackError(f"no tier is called `{name}`", hint=f"there are {', '.join(config.tiers)}")
    wanted = _parsed(model)
    # LiteLLM, and whoever reads the file, knows full names only.
    wanted = replace(wanted, id=load_known(user.config).full_name(wanted.provider, wanted.id))
    text, off = pointed(config.text, tier, wanted)
    edited = parse(text, str(project.models_ini), base=project.models_ini.parent)
    base_url = getattr(edited.tiers[tier.name].model, "base_url", None)
    why_not = _probe(wanted, base_url, env, user, own_addresses(project, config))
    if why_not is not None and not force:
        raise LlmstackError(
            f"{tier.name} keeps {tier.model.label}: {wanted.label} was asked, and {why_not.message}",
            hint=why_not.hint or "mend that, or `--force` it",
        )
    _write(project, user, config, edited)
    reloaded = None
    if running_router(project) is not None:
        try:
            reloaded = reload(project, env, user.trusted_projects)
        except LlmstackError as error:
            _write(project, user, edited, config)
            raise LlmstackError(
                f"{tier.name} keeps {tier.model.label}: {error.message}", hint=error.hint
            ) from error
    failed = why_not.message if why_not is not None else None
    return Used(tier.name, tier.model.label, wanted.label, off, failed, reloaded)


def pointed(text: str, tier: Tier, wanted: HostedModel) -> tuple[str, tuple[str, ...]]:
    """Return models.ini with the tier's model exchanged, and the keys that had to be switched off for it."""
    backend = _backend(tier, wanted)
    fits = COMMON | LIMITS | OF_BACKEND[backend]
    section = scan(text).find(tier.name)
    keys = [entry.key for entry in section.entries] if section is not None else []
    now = tier.model
    other = not isinstance(now, HostedModel) or now.provider != wanted.provider
    off = [key for key in keys if key not in fits or key == "model_next" or (key == "base_url" and other)]
    for key in off:
        text = switched_off(text, tier.name, key)
    natural = BackendKind.SERVER if wanted.provider in LOCAL_SERVERS else BackendKind.LITELLM
    if "backend" in keys or backend is not natural:
        text = with_value(text, tier.name, "backend", str(backend))
    return with_value(text, tier.name, "model", wanted.label), tuple(off)


def _backend(tier: Tier, wanted: HostedModel) -> BackendKind:
    """Return how the new model is served: as the old one where that can be, else in the simplest way."""
    if wanted.provider in LOCAL_SERVERS:
        return BackendKind.SERVER
    if tier.backend is BackendKind.LITELLM or wanted.provider not in DIRECT_PROVIDERS:
        return BackendKind.LITELLM
    return BackendKind.SERVER


def _parsed(model: str) -> HostedModel:
    try:
        return hosted(model)
    except BadValueError as error:
        example = f"such as `{error.write[0]}`" if error.write else None
        raise UsageError(f"MODEL: expected {error.expected}, got `{model}`", hint=example) from error


def _probe(
    model: HostedModel, base_url: str | None, env: Mapping[str, str], user: UserDirs, own: tuple[str, ...]
) -> LlmstackError | None:
    """Ask the model something short; return why that failed, None where it answered."""
    try:
        asked = providers.model(
            model.label,
            base_url=base_url,
            timeout_s=PROBE_S,
            retries=0,
            env=env,
            config_dir=user.config,
            own=own,
        )
        asked.call(PROBE, max_tokens=PROBE_TOKENS)  # any answer: one that thinks has said nothing by then
    except LlmstackError as error:
        return error
    return None


def _write(project: Project, user: UserDirs, before: StackConfig, after: StackConfig) -> None:
    with exclusive(project.lock, "use"):
        if local_config(project).text != before.text:
            raise LlmstackError(f"{project.models_ini} was edited meanwhile", hint="try again")
        refresh(project, user.trusted_projects, after, models_ini=after.text)
