"""Pointing a tier at another model, after a probe shows that the model answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmstack import providers
from llmstack.config import parse
from llmstack.config.edit import comment_out, set_value
from llmstack.config.ini import scan
from llmstack.config.model import DIRECT_PROVIDERS, LOCAL_SERVERS, BackendKind, HostedModel
from llmstack.config.schema import BACKEND_KEYS, COMMON, LIMITS
from llmstack.config.trusted import open_trusted
from llmstack.config.values import BadValueError, hosted
from llmstack.errors import LlmstackError, UsageError
from llmstack.files import exclusive_lock
from llmstack.providers.model_aliases import load_aliases
from llmstack.stack.ask import own_addresses
from llmstack.stack.install.project_files import dependent_files
from llmstack.stack.lifecycle.reload import ReloadResult, reload_stack
from llmstack.stack.project import require_config, running_router

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs

PROBE_PROMPT = "Answer with the word OK."
PROBE_TIMEOUT_S = 30.0  # a local server may have to load the model first
PROBE_TOKENS = 16


@dataclass(frozen=True, slots=True)
class UseResult:
    """The result of `use`.

    Attributes:
        tier: its name.
        old_model: the model it had.
        new_model: the model it has now.
        disabled_keys: keys of models.ini that do not fit the new model, and were commented out.
        probe_error: why the probe failed, if `--force` ignored that.
        reload: the reload of the running stack; None if the stack is not running.
    """

    tier: str
    old_model: str
    new_model: str
    disabled_keys: tuple[str, ...]
    probe_error: str | None
    reload: ReloadResult | None


def use(trusted: TrustedProject, env: Mapping[str, str], name: str, model: str, *, force: bool) -> UseResult:
    """Set a tier's model in models.ini to `<provider>/<id>`, and reload a running stack.

    Args:
        trusted: an installed project.
        env: for the provider's key and address.
        name: of the tier, or an alias.
        model: `<provider>/<id>`.
        force: set the model even if it does not answer.

    Raises:
        LlmstackError: there is no such tier, the model does not answer, models.ini would be wrong with it, or
            the running stack cannot use it; models.ini is unchanged then.
    """
    config, project, user = require_config(trusted), trusted.project, trusted.user
    tier = config.find(name)
    if tier is None:
        raise LlmstackError(f"no tier is called `{name}`", hint=f"there are {', '.join(config.tiers)}")
    new_model = _parse_model(model)
    # models.ini gets the full name: LiteLLM does not know our short ones.
    full_name = load_aliases(user.config).full_name(new_model.provider, new_model.id)
    new_model = replace(new_model, id=full_name)
    text, disabled_keys = set_model(config.text, tier, new_model)
    edited = parse(text, str(project.models_ini), base=project.models_ini.parent)
    base_url = getattr(edited.tiers[tier.name].model, "base_url", None)
    probe_error = _probe(new_model, base_url, env, user, own_addresses(trusted))
    if probe_error is not None and not force:
        raise LlmstackError(
            f"{tier.name} keeps {tier.model.label}: {new_model.label} was asked, and {probe_error.message}",
            hint=probe_error.hint or "fix that, or use `--force`",
        )
    written = _write_models_ini(trusted, edited)
    reload = None
    if running_router(project) is not None:
        try:
            reload = reload_stack(written, env)
        except LlmstackError as error:
            _write_models_ini(open_trusted(project, user), config)
            raise LlmstackError(
                f"{tier.name} keeps {tier.model.label}: {error.message}", hint=error.hint
            ) from error
    return UseResult(
        tier=tier.name,
        old_model=tier.model.label,
        new_model=new_model.label,
        disabled_keys=disabled_keys,
        probe_error=probe_error.message if probe_error is not None else None,
        reload=reload,
    )


def set_model(text: str, tier: Tier, model: HostedModel) -> tuple[str, tuple[str, ...]]:
    """Return models.ini with another model for the tier, and the keys that had to be commented out for it."""
    backend = _choose_backend(tier, model)
    valid_keys = COMMON | LIMITS | BACKEND_KEYS[backend]
    section = scan(text).find(tier.name)
    keys = [entry.key for entry in section.entries] if section is not None else []
    old_model = tier.model
    obsolete_keys = {"model_next"}
    if not isinstance(old_model, HostedModel) or old_model.provider != model.provider:
        obsolete_keys.add("base_url")
    disabled_keys = [key for key in keys if key not in valid_keys or key in obsolete_keys]
    for key in disabled_keys:
        text = comment_out(text, tier.name, key)
    default = BackendKind.SERVER if model.provider in LOCAL_SERVERS else BackendKind.LITELLM
    if "backend" in keys or backend is not default:
        text = set_value(text, tier.name, "backend", str(backend))
    return set_value(text, tier.name, "model", model.label), tuple(disabled_keys)


def _choose_backend(tier: Tier, model: HostedModel) -> BackendKind:
    """Return the backend for the new model: the tier's current one if possible, else the simplest."""
    if model.provider in LOCAL_SERVERS:
        return BackendKind.SERVER
    if tier.backend is BackendKind.LITELLM or model.provider not in DIRECT_PROVIDERS:
        return BackendKind.LITELLM
    return BackendKind.SERVER


def _parse_model(model: str) -> HostedModel:
    try:
        return hosted(model)
    except BadValueError as error:
        example = f"such as `{error.suggestions[0]}`" if error.suggestions else None
        raise UsageError(f"MODEL: expected {error.expected}, got `{model}`", hint=example) from error


def _probe(
    model: HostedModel, base_url: str | None, env: Mapping[str, str], user: UserDirs, own: tuple[str, ...]
) -> LlmstackError | None:
    """Send the model a short prompt; return the error, or None if it answered."""
    try:
        client = providers.model(
            model.label,
            base_url=base_url,
            timeout_s=PROBE_TIMEOUT_S,
            retries=0,
            env=env,
            config_dir=user.config,
            own_addresses=own,
        )
        # The answer may be empty: a reasoning model spends the few tokens on thinking.
        client.call(PROBE_PROMPT, max_tokens=PROBE_TOKENS)
    except LlmstackError as error:
        return error
    return None


def _write_models_ini(trusted: TrustedProject, config: StackConfig) -> TrustedProject:
    """Replace models.ini and the files generated from it, unless one was edited meanwhile."""
    with exclusive_lock(trusted.project.lock, "use"):
        files = dependent_files(trusted, config)
        return trusted.write({trusted.project.models_ini: config.text, **files})
