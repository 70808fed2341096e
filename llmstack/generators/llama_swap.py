"""`llama-swap.yaml`: what llama-swap runs for every gguf tier that can start, and which may live together.

Two secrets stand in it, so it is written with mode 0600. `apiKeys` is what llama-swap asks for; it takes
the header away before it passes a request on, so its model servers cannot ask for a key of their own.
They serve below a secret path instead, which `proxy` adds, and answer 404 to everybody else.

Nothing is preloaded by it: the router asks for the tier that is to be resident. Its own `preload` asks for
`/`, which these model servers do not have, and would log a failure at every start.
"""

from __future__ import annotations

import io
import math
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from llmstack.config.model import GgufModel
from llmstack.errors import LlmstackError
from llmstack.llama_cpp.command import server_flags
from llmstack.llama_cpp.parent_watch import LIFELINE, PARENT_PID
from llmstack.serving.memory.eviction import MemoryPlan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from llmstack.config.model import StackConfig, Tier
    from llmstack.llama_cpp.binary import EngineBinary
    from llmstack.serving.memory.survey import Survey, TierSurvey

HOST = "127.0.0.1"
PORT = "${PORT}"  # llama-swap's macro: a port of its own for each model
HEALTH_S = 900  # a large model from a slow disk; its default, 120, is short for 45 GB
CONCURRENCY = 10_000  # its default, 10, answers 429 beyond; the router queues
_HEADER = "# Written by `llmstack start` at each start: edit models.ini instead. It holds keys.\n"
_NEEDS_NO_VAR = re.compile(r"[a-zA-Z0-9.-]{1,32}")


@dataclass(frozen=True, slots=True)
class SwapSecrets:
    """Made at each start.

    Attributes:
        key: what llama-swap asks for.
        path: what its model servers serve below, without slashes.
    """

    key: str
    path: str


@dataclass(frozen=True, slots=True)
class Peer:
    """Another server whose models llama-swap passes requests on to.

    Attributes:
        url: its address.
        key: what it asks for.
        models: as it calls them.
    """

    url: str
    key: str
    models: tuple[str, ...]


def render(
    config: StackConfig,
    found: Survey,
    secrets: SwapSecrets,
    *,
    start_port: int,
    windows: bool = False,
    litellm: Peer | None = None,
) -> str:
    """Return the text of `llama-swap.yaml`.

    Args:
        config: the stack, on the channel that runs.
        found: which tiers can start, from which files, by which engine.
        secrets: see there.
        start_port: first port of the model servers; as many follow as there are tiers.
        windows: quote command lines as Windows does.
        litellm: where the litellm tiers are served, so that llama-swap's port reaches them too.

    Raises:
        LlmstackError: a path or argument cannot be said in a command line of llama-swap.
    """
    tiers = servable(config, found)
    models = {
        tier.name: _model(tier, found.tiers[tier.name], found.engine, secrets, windows=windows)
        for tier in tiers
        if found.engine is not None
    }
    document: dict[str, Any] = {
        "healthCheckTimeout": HEALTH_S,
        "logLevel": "warn",  # `info` would log the address of each model server, with the secret path
        "logToStdout": "both",
        "captureBuffer": 0,  # no prompts kept in memory
        "startPort": start_port,
        "sendLoadingState": False,  # a client would show it as reasoning; the router says what it waits for
        "includeAliasesInList": True,
        "apiKeys": [secrets.key],
        "models": models,
    }
    if models:
        matrix = _matrix(_plan(found.plan, models))
        document["routing"] = {"router": {"use": "matrix", "settings": {"matrix": matrix}}}
    if litellm is not None:
        # Its default cuts a model that has not begun to answer after 60 s.
        patient = {"responseHeader": 0}
        peer = {"proxy": litellm.url, "apiKey": litellm.key, "models": list(litellm.models)}
        document["peers"] = {"litellm": {**peer, "timeouts": patient}}
    yaml = YAML()
    yaml.width = sys.maxsize  # one line for each command
    text = io.StringIO()
    yaml.dump(document, text)
    return _HEADER + text.getvalue()


def servable(config: StackConfig, found: Survey) -> list[Tier]:
    """Return the gguf tiers that can start."""
    return [
        tier
        for tier in config.tiers.values()
        if isinstance(tier.model, GgufModel)
        and found.tiers[tier.name].weights is not None
        and found.tiers[tier.name].obstacle is None
    ]


def _model(
    tier: Tier, found: TierSurvey, engine: EngineBinary, secrets: SwapSecrets, *, windows: bool
) -> dict[str, Any]:
    weights: Path | None = found.weights
    if weights is None:
        raise AssertionError(tier.name)
    argv = engine.argv(server_flags(tier, weights, host=HOST, port=PORT))
    model: dict[str, Any] = {
        "cmd": command_line(argv, tier.name, windows=windows),
        "proxy": f"http://{HOST}:{PORT}/{secrets.path}",
        "checkEndpoint": "/health",
        # llama-swap gives its children no pipe to hold on to; the path is in no command line.
        "env": [f"{LIFELINE}={PARENT_PID}", f"LLAMA_ARG_API_PREFIX=/{secrets.path}", "PYTHONUNBUFFERED=1"],
        "ttl": math.ceil(tier.ttl),  # 0 is never
        "concurrencyLimit": CONCURRENCY,
        "metadata": _metadata(tier, found),
    }
    if tier.aliases:
        model["aliases"] = list(tier.aliases)
    if tier.description:
        model["description"] = _plain(tier.description)
    return model


def _metadata(tier: Tier, found: TierSurvey) -> dict[str, Any]:
    quant = getattr(tier.model, "quant", None)
    about = {
        "tier": tier.name,
        "role": str(tier.role) if tier.role else None,
        "kind": tier.kind,
        "model": _plain(tier.model.label),
        "quant": _plain(quant) if quant else None,
        "ctx": tier.ctx_size,
        "size": found.size_bytes,
        "channel": tier.channel,
    }
    return {name: value for name, value in about.items() if value is not None}


def _plain(text: str) -> str:
    """Return text for people, in which llama-swap would look for its macros."""
    return text.replace("${", "$ {")


def command_line(argv: Sequence[str], tier: str, *, windows: bool = False) -> str:
    """Return a command line that llama-swap splits into these words again.

    It drops lines that start with `#`, joins lines at a backslash and replaces `${…}`, also in quotes.

    Raises:
        LlmstackError: a word cannot be said so.
    """
    for word in argv:
        line_break = next((char for char in "\n\r\0" if char in word), None)
        macro = windows and "${" in word and word != PORT
        if line_break or macro:
            what = "`${`" if macro else "a line break"
            raise LlmstackError(
                f"[{tier}] llama-swap cannot take {what} in a command line: {word!r}",
                hint="write it otherwise, or set `swapper = builtin` in models.ini",
            )
    if windows:
        return subprocess.list2cmdline(argv)
    # Two quoted pieces side by side are one word, in which there is no `${` to be replaced.
    return " ".join(word if word == PORT else shlex.quote(word).replace("${", "$''{") for word in argv)


def _plan(plan: MemoryPlan, models: Mapping[str, object]) -> MemoryPlan:
    """Return the plan of those tiers that can start: the matrix must name no other."""
    return MemoryPlan(
        plan.budget, {name: need for name, need in plan.needs.items() if name in models}, plan.costs
    )


def _matrix(plan: MemoryPlan) -> dict[str, Any]:
    short = {name: name if _NEEDS_NO_VAR.fullmatch(name) else "" for name in plan.needs}
    taken = set(short.values())
    numbers = (number for number in range(1, len(short) + len(taken) + 1) if f"tier{number}" not in taken)
    short = {name: word or f"tier{next(numbers)}" for name, word in short.items()}
    matrix: dict[str, Any] = {
        "evict_costs": {short[name]: max(1, round(plan.costs[name])) for name in plan.needs},
        "sets": {
            f"set{number}": " & ".join(short[name] for name in together)
            for number, together in enumerate(plan.sets(), start=1)
        },
    }
    named = {word: name for name, word in short.items() if word != name}
    return {"vars": named, **matrix} if named else matrix
