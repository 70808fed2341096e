"""`llama-swap.yaml`: the command of every gguf tier that can start, and which tiers may be loaded together.

The file holds two secrets, so it is written with mode 0600. `apiKeys` is the key that llama-swap requires. It
removes the header before it forwards a request, so its model servers cannot require a key. Instead they serve
below a secret path each, which `proxy` adds, and answer 404 to all other requests.

llama-swap preloads nothing; the router requests the tier to load. llama-swap's own `preload` requests `/`,
which these model servers do not have, and would log a failure at every start.
"""

from __future__ import annotations

import hmac
import io
import math
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML
from ruamel.yaml.representer import RoundTripRepresenter

from llmstack.config.model import GgufModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.command import server_flags
from llmstack.llama_cpp.parent_watch import PARENT_PID, WATCH_MODE_VARIABLE
from llmstack.serving.memory.eviction import MemoryPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.serving.memory.survey import Survey, TierSurvey

HOST = "127.0.0.1"
PORT = "${PORT}"  # llama-swap's macro for the port of each model
HEALTH_TIMEOUT_S = 900  # for a large model on a slow disk; the default, 120, is too short for 45 GB
CONCURRENCY = 10_000  # the router queues requests; by default llama-swap answers 429 to the 11th
_HEADER = "# Written by `llmstack start` at each start: edit models.ini instead. It holds keys.\n"
_MATRIX_NAME = re.compile(r"[a-zA-Z0-9.-]{1,32}")


@dataclass(frozen=True, slots=True)
class SwapSecrets:
    """Secrets of llama-swap, new at each start.

    Attributes:
        key: the API key that llama-swap requires.
        seed: what the path prefixes of its model servers are derived from.
    """

    key: str
    seed: str

    def path(self, tier: str) -> str:
        """Return the path prefix of a tier's model server, without slashes; each tier has another one.

        Whoever takes the port of one model server is sent the path of that one only.
        """
        return hmac.new(self.seed.encode(), tier.encode(), "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server that llama-swap forwards requests to.

    Attributes:
        url: its address.
        key: the API key that it requires.
        models: names of its models.
    """

    url: str
    key: str
    models: tuple[str, ...]


def render(
    config: StackConfig,
    survey: Survey,
    secrets: SwapSecrets,
    *,
    start_port: int,
    windows: bool = False,
    litellm: Peer | None = None,
) -> str:
    """Return the text of `llama-swap.yaml`.

    Args:
        config: the stack, on the channel that runs.
        survey: which tiers can start, from which files, with which engine.
        secrets: the secrets to write into the file.
        start_port: first port of the model servers, which get one port each.
        windows: quote command lines as Windows does.
        litellm: the server of the litellm tiers, so that clients of llama-swap's port can use them too.

    Raises:
        LlmstackError: llama-swap cannot pass a path or argument to a program.
    """
    models = {
        tier.name: _model(tier, survey.tiers[tier.name], survey.engine, secrets, windows=windows)
        for tier in startable_tiers(config, survey)
        if survey.engine is not None
    }
    document: dict[str, Any] = {
        "healthCheckTimeout": HEALTH_TIMEOUT_S,
        "logLevel": "warn",  # `info` would log the secret path of each model server
        "logToStdout": "both",
        "captureBuffer": 0,  # keep no prompts in memory
        "startPort": start_port,
        "sendLoadingState": False,  # clients would show it as reasoning; the router reports what it waits for
        "includeAliasesInList": True,
        "apiKeys": [secrets.key],
        "models": models,
    }
    if models:
        matrix = _matrix(_restrict_plan(survey.plan, models))
        document["routing"] = {"router": {"use": "matrix", "settings": {"matrix": matrix}}}
    if litellm is not None:
        timeouts = {"responseHeader": 0}  # the default aborts a request without a response after 60 s
        peer = {"proxy": litellm.url, "apiKey": litellm.key, "models": list(litellm.models)}
        document["peers"] = {"litellm": {**peer, "timeouts": timeouts}}
    return _HEADER + to_yaml(document)


class _Representer(RoundTripRepresenter):
    def represent_str(self, text: str) -> Any:
        # Unless it escapes these line separators, ruamel.yaml writes text that reads as something else.
        style = '"' if any(char in text for char in "\x85\u2028\u2029") else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Representer.add_representer(str, _Representer.represent_str)


def to_yaml(document: Mapping[str, Any]) -> str:
    """Return a document as YAML, each string on one line: ruamel.yaml folds some strings incorrectly."""
    yaml = YAML()
    yaml.Representer = _Representer
    yaml.width = sys.maxsize
    text = io.StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def startable_tiers(config: StackConfig, survey: Survey) -> list[Tier]:
    """Return the gguf tiers that can start."""
    return [
        tier
        for tier in config.tiers.values()
        if isinstance(tier.model, GgufModel)
        and survey.tiers[tier.name].weights is not None
        and survey.tiers[tier.name].obstacle is None
    ]


def _model(
    tier: Tier, survey: TierSurvey, engine: EngineBinary, secrets: SwapSecrets, *, windows: bool
) -> dict[str, Any]:
    weights: Path | None = survey.weights
    if weights is None:
        raise AssertionError(tier.name)
    argv = engine.argv((*server_flags(tier, weights), "--host", HOST, "--port", PORT))
    model: dict[str, Any] = {
        "cmd": command_line(argv, tier.name, windows=windows),
        "proxy": f"http://{HOST}:{PORT}/{secrets.path(tier.name)}",
        "checkEndpoint": "/health",
        # The secret path is in the environment, as other users can read command lines.
        "env": [
            f"{WATCH_MODE_VARIABLE}={PARENT_PID}",
            f"LLAMA_ARG_API_PREFIX=/{secrets.path(tier.name)}",
            "PYTHONUNBUFFERED=1",
        ],
        "ttl": math.ceil(tier.ttl),  # 0 means never
        "concurrencyLimit": CONCURRENCY,
        "metadata": _metadata(tier, survey),
    }
    if tier.aliases:
        model["aliases"] = list(tier.aliases)
    if tier.description:
        model["description"] = _without_macros(tier.description)
    return model


def _metadata(tier: Tier, survey: TierSurvey) -> dict[str, Any]:
    quant = getattr(tier.model, "quant", None)
    fields = {
        "tier": tier.name,
        "role": str(tier.role) if tier.role else None,
        "kind": tier.kind,
        "model": _without_macros(tier.model.label),
        "quant": _without_macros(quant) if quant else None,
        "ctx": tier.ctx_size,
        "size": survey.size_bytes,
        "channel": tier.channel,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _without_macros(text: str) -> str:
    """Return text for people in which llama-swap finds none of its macros."""
    return text.replace("${", "$ {")


def command_line(argv: Sequence[str], tier: str, *, windows: bool = False) -> str:
    """Return a command line that llama-swap splits into these arguments again.

    llama-swap drops lines that start with `#`, joins lines at a backslash and replaces `${…}` even in quotes.

    Raises:
        LlmstackError: an argument cannot be quoted so that llama-swap keeps it.
    """
    for argument in argv:
        has_line_break = any(char in argument for char in "\n\r\0")
        has_macro = windows and "${" in argument and argument != PORT
        if has_line_break or has_macro:
            what = "`${`" if has_macro else "a line break"
            raise LlmstackError(
                f"[{tier}] llama-swap does not support {what} in a command line: {argument!r}",
                hint="change it, or set `swapper = builtin` in models.ini",
            )
    if windows:
        return subprocess.list2cmdline(argv)
    # Two adjacent quoted parts are one argument, and `${` no longer occurs in the text.
    quoted = (shlex.quote(argument).replace("${", "$''{") for argument in argv)
    return " ".join(PORT if argument == PORT else text for argument, text in zip(argv, quoted, strict=True))


def _restrict_plan(plan: MemoryPlan, models: Mapping[str, object]) -> MemoryPlan:
    """Return the plan for the given models only, as the matrix may name no other."""
    return MemoryPlan(
        plan.budget, {name: need for name, need in plan.needs.items() if name in models}, plan.costs
    )


def _matrix(plan: MemoryPlan) -> dict[str, Any]:
    """Return the sets of tiers that fit into memory together, and what evicting each tier costs.

    Names that the matrix's syntax does not allow get a short name, defined under `vars`.
    """
    names = {name: name if _MATRIX_NAME.fullmatch(name) else "" for name in plan.needs}
    used = set(names.values())
    numbers = (number for number in range(1, len(names) + len(used) + 1) if f"tier{number}" not in used)
    short = {name: valid or f"tier{next(numbers)}" for name, valid in names.items()}
    matrix: dict[str, Any] = {
        "evict_costs": {short[name]: max(1, round(plan.costs[name])) for name in plan.needs},
        "sets": {
            f"set{number}": " & ".join(short[name] for name in together)
            for number, together in enumerate(plan.sets(), start=1)
        },
    }
    variables = {variable: name for name, variable in short.items() if variable != name}
    return {"vars": variables, **matrix} if variables else matrix
