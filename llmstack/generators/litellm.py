"""`litellm_config.yaml`: what models.ini says of the litellm tiers, merged into what the user wrote there.

The file is the user's as much as ours. Beside what is written for a tier stands what was written
(`model_info.llmstack`), so that the next time an edit is told from what models.ini said before.
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

WRITTEN = "llmstack"
# The router moves on and lets tiers rest: LiteLLM doing both as well would hide what the provider said.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "litellm_settings": {
        "drop_params": True,
        "turn_off_message_logging": True,
        "use_chat_completions_url_for_anthropic_messages": True,  # compatible servers have no /v1/responses
    },
    "router_settings": {"num_retries": 0, "disable_cooldowns": True},
}
_HEAD = """\
# LiteLLM's configuration. Written by `llmstack install` and `start` from models.ini, and yours to edit:
# what you change or add stays. Keys are names of environment variables, so it can be committed.
"""


def render(config: StackConfig, before: str | None) -> str | None:
    """Return the text of `litellm_config.yaml`; None where there is none and nothing to say.

    Args:
        config: as declared, with its queued upgrades.
        before: the file as it is; None where there is none.

    Raises:
        LlmstackError: the file is not YAML, or not a configuration.
    """
    wanted = _entries(config)
    if before is None and not wanted:
        return None
    yaml = _yaml()
    document = _parsed(yaml, before)
    if not _merge(document, wanted, fresh=not before) and before:
        return before  # not even its layout changes
    out = io.StringIO()
    yaml.dump(document, out)
    return out.getvalue() if before else _HEAD + out.getvalue()


def _yaml() -> YAML:
    yaml = YAML()  # round trip: comments, order and quotes stay
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _entries(config: StackConfig) -> dict[str, dict[str, str]]:
    """Return what LiteLLM is to be told of each model, by the name that the router asks for."""
    wanted = {}
    for tier in config.tiers.values():
        if tier.backend is not BackendKind.LITELLM:
            continue
        for name, model in ((tier.name, tier.model), (f"{tier.name}_next", tier.next_model)):
            if isinstance(model, HostedModel):
                wanted[name] = _parameters(model)
    return wanted


def _parameters(model: HostedModel) -> dict[str, str]:
    parameters = {"model": model.label}
    if model.base_url is not None:
        parameters["api_base"] = model.base_url
    if (variable := key_variable(model)) is not None:
        parameters["api_key"] = f"os.environ/{variable}"
    return parameters


def _parsed(yaml: YAML, text: str | None) -> CommentedMap:
    try:
        document = yaml.load(text) if text else None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise LlmstackError(
            f"litellm_config.yaml{where}: not YAML: {problem}", hint="correct it, or move it away"
        ) from error
    except (ValueError, LookupError, RecursionError) as error:  # the 45th of a month, a word as `!!bool`
        raise LlmstackError(
            f"litellm_config.yaml: a value cannot be read: {error}", hint="correct it, or move it away"
        ) from error
    if document is None:
        return CommentedMap()
    listed = document.get("model_list") if isinstance(document, CommentedMap) else ""
    if listed is not None and not (
        isinstance(listed, CommentedSeq) and all(isinstance(entry, CommentedMap) for entry in listed)
    ):
        raise LlmstackError(
            "litellm_config.yaml: expected a mapping whose `model_list` is a list of models",
            hint="correct it, or move it away: `llmstack install` writes a new one",
        )
    found: CommentedMap = document
    return found


def _merge(document: CommentedMap, wanted: Mapping[str, dict[str, str]], *, fresh: bool) -> bool:
    """Bring a document up to date; return whether anything changed."""
    changed = False
    listed = document.get("model_list")
    if listed is None:
        listed = document["model_list"] = CommentedSeq()
        changed = True
    there = {str(entry.get("model_name")): entry for entry in listed}
    for name, parameters in wanted.items():
        if name not in there:
            listed.append(_entry(name, parameters))
            changed = True
        elif _written(there[name]) is not None:  # else it is all the user's
            changed |= _update(there[name], parameters)
    for entry in [entry for entry in listed if str(entry.get("model_name")) not in wanted]:
        if (written := _written(entry)) is not None and dict(_of(entry, "litellm_params")) == written:
            listed.remove(entry)
            changed = True
    if fresh:
        for section, settings in _SETTINGS.items():
            document[section] = CommentedMap(settings)
        changed = True
    return changed


def _entry(name: str, parameters: Mapping[str, str]) -> CommentedMap:
    written = CommentedMap(parameters)
    written.fa.set_flow_style()
    return CommentedMap(
        model_name=name,
        litellm_params=CommentedMap(parameters),
        model_info=CommentedMap({WRITTEN: written}),
    )


def _of(entry: CommentedMap, key: str) -> CommentedMap:
    value = entry.get(key)
    return value if isinstance(value, CommentedMap) else CommentedMap()


def _written(entry: CommentedMap) -> dict[str, Any] | None:
    """Return what was written of an entry; None where it is not one of ours."""
    value = _of(entry, "model_info").get(WRITTEN)
    return dict(value) if isinstance(value, CommentedMap) else None


def _update(entry: CommentedMap, parameters: Mapping[str, str]) -> bool:
    """Write what models.ini changed, of what the user left as it was; return whether anything did."""
    written, params = _written(entry) or {}, _of(entry, "litellm_params")
    if written == parameters:
        return False
    for key in written.keys() | parameters.keys():
        if params.get(key) == written.get(key):
            if key in parameters:
                params[key] = parameters[key]
            else:
                params.pop(key, None)
    entry["litellm_params"] = params
    now = CommentedMap(parameters)
    now.fa.set_flow_style()
    entry["model_info"][WRITTEN] = now
    return True
