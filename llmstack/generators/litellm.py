"""`litellm_config.yaml`: the litellm tiers of models.ini, merged into the file that the user may edit.

Each generated entry also records its generated parameters, under `model_info.llmstack`. By comparing with
that record, the next merge distinguishes the user's edits from older values of models.ini.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from llmstack.config.model import BackendKind, HostedModel
from llmstack.errors import LlmstackError
from llmstack.serving.litellm.program import key_variable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig

RECORD = "llmstack"
# The router itself fails over and pauses tiers; if LiteLLM did so too, it would hide the provider's errors.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "litellm_settings": {
        "drop_params": True,
        "turn_off_message_logging": True,
        "use_chat_completions_url_for_anthropic_messages": True,  # compatible servers lack /v1/responses
    },
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
}
_HEADER = """\
# LiteLLM's configuration. Written by `llmstack install` and `start` from models.ini, and yours to edit:
# what you change or add stays. Keys are names of environment variables, so it can be committed.
"""


def render(config: StackConfig, existing: str | None) -> str | None:
    """Return the text of `litellm_config.yaml`; None if there is no file and no tier needs one.

    Args:
        config: the stack as declared, with its queued upgrades.
        existing: the current text of the file; None if there is no file.

    Raises:
        LlmstackError: the existing file is not YAML, or not a LiteLLM configuration.
    """
    models = _model_parameters(config)
    if existing is None and not models:
        return None
    yaml = _round_trip_yaml()
    document = _parse(yaml, existing)
    if not _merge(document, models, is_new=not existing) and existing:
        return existing  # unchanged, layout included
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue() if existing else _HEADER + out.getvalue()


def _round_trip_yaml() -> YAML:
    """Return a parser and writer that keeps comments, order and quotes."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _model_parameters(config: StackConfig) -> dict[str, dict[str, str]]:
    """Return the `litellm_params` of each model by the model name in the router's requests."""
    models = {}
    for tier in config.tiers.values():
        if tier.backend is not BackendKind.LITELLM:
            continue
        for name, model in ((tier.name, tier.model), (f"{tier.name}_next", tier.next_model)):
            if isinstance(model, HostedModel):
                models[name] = _parameters(model)
    return models


def _parameters(model: HostedModel) -> dict[str, str]:
    parameters = {"model": model.label}
    if model.base_url is not None:
        parameters["api_base"] = model.base_url
    if (variable := key_variable(model)) is not None:
        parameters["api_key"] = f"os.environ/{variable}"
    return parameters


def _parse(yaml: YAML, text: str | None) -> CommentedMap:
    """Return the document, an empty one if there is no text; raise LlmstackError if it is invalid."""
    try:
        document = yaml.load(text) if text else None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise LlmstackError(
            f"litellm_config.yaml{line}: not YAML: {problem}", hint="correct it, or move it away"
        ) from error
    except (
        ValueError,
        LookupError,
        RecursionError,
    ) as error:  # for example the date 2026-01-45, or `!!bool maybe`
        raise LlmstackError(
            f"litellm_config.yaml: a value cannot be read: {error}", hint="correct it, or move it away"
        ) from error
    if document is None:
        return CommentedMap()
    entries = document.get("model_list") if isinstance(document, CommentedMap) else ""
    if entries is not None and not (
        isinstance(entries, CommentedSeq) and all(isinstance(entry, CommentedMap) for entry in entries)
    ):
        raise LlmstackError(
            "litellm_config.yaml: expected a mapping whose `model_list` is a list of models",
            hint="correct it, or move it away: `llmstack install` writes a new one",
        )
    parsed: CommentedMap = document
    return parsed


def _merge(document: CommentedMap, models: Mapping[str, dict[str, str]], *, is_new: bool) -> bool:
    """Update a document with the models of models.ini; return whether anything changed."""
    changed = False
    entries = document.get("model_list")
    if entries is None:
        entries = document["model_list"] = CommentedSeq()
        changed = True
    by_name = {str(entry.get("model_name")): entry for entry in entries}
    for name, parameters in models.items():
        if name not in by_name:
            entries.append(_entry(name, parameters))
            changed = True
        elif _recorded_parameters(by_name[name]) is not None:  # otherwise the user wrote the entry
            changed |= _update(by_name[name], parameters)
    for entry in [entry for entry in entries if str(entry.get("model_name")) not in models]:
        recorded = _recorded_parameters(entry)
        if recorded is not None and dict(_submap(entry, "litellm_params")) == recorded:
            entries.remove(entry)
            changed = True
    if is_new:
        for section, settings in _SETTINGS.items():
            document[section] = CommentedMap(settings)
        changed = True
    return changed


def _entry(name: str, parameters: Mapping[str, str]) -> CommentedMap:
    return CommentedMap(
        model_name=name,
        litellm_params=CommentedMap(parameters),
        model_info=CommentedMap({RECORD: _record(parameters)}),
    )


def _record(parameters: Mapping[str, str]) -> CommentedMap:
    """Return the record of generated parameters, written on one line."""
    record = CommentedMap(parameters)
    record.fa.set_flow_style()
    return record


def _submap(entry: CommentedMap, key: str) -> CommentedMap:
    """Return the mapping under a key; an empty one if there is no mapping."""
    value = entry.get(key)
    return value if isinstance(value, CommentedMap) else CommentedMap()


def _recorded_parameters(entry: CommentedMap) -> dict[str, Any] | None:
    """Return the generated parameters of an entry; None if the entry was not generated."""
    value = _submap(entry, "model_info").get(RECORD)
    return dict(value) if isinstance(value, CommentedMap) else None


def _update(entry: CommentedMap, parameters: Mapping[str, str]) -> bool:
    """Update the parameters that the user has not edited; return whether models.ini changed any."""
    recorded, current = _recorded_parameters(entry) or {}, _submap(entry, "litellm_params")
    if recorded == parameters:
        return False
    for key in recorded.keys() | parameters.keys():
        is_unedited = current.get(key) == recorded.get(key)
        if is_unedited and key in parameters:
            current[key] = parameters[key]
        elif is_unedited:
            current.pop(key, None)
    entry["litellm_params"] = current
    entry["model_info"][RECORD] = _record(parameters)
    return True
