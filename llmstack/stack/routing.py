"""Which tier a request would go to, without sending it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.channel import NEXT
from llmstack.config import load, parse, profile_text
from llmstack.errors import LlmstackError
from llmstack.policy.ladder import AUTO, Decision, decide
from llmstack.router.dialects.base import BadRequestError
from llmstack.router.dialects.table import dialect_of
from llmstack.stack.project import active_channel, running_router
from llmstack.stack.remote import fetch, remote_url
from llmstack.swapper.obstacles import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.router.dialects.base import ParsedRequest


@dataclass(frozen=True, slots=True)
class Route:
    """A decision, and what it rests on.

    Attributes:
        assumed: with no stack running, the tiers that were taken as available and are not, with reasons.
    """

    tier: str
    reason: str
    conversation_tokens: int
    context_tokens: int
    assumed: dict[str, str] = field(default_factory=dict)


def config_here(project: Project | None, user: UserDirs) -> StackConfig:
    """Return the project's configuration on its channel, the bundled default where there is no project."""
    if project is None or not project.models_ini.is_file():
        text = profile_text("default", demo_models=user.demo_models)
        return parse(text, "profile default", base=user.data)
    return load(project.models_ini).on("next" if active_channel(project) == NEXT else "current")


def route(body: bytes, project: Project | None, user: UserDirs, env: Mapping[str, str]) -> Route:
    """Decide for a request body.

    Raises:
        LlmstackError: the body is no request, or nothing can serve it.
    """
    parsed = _parse(body)
    url = remote_url(project)
    config = fetch(url, env).config if url is not None else config_here(project, user)
    unavailable = missing(config, env) if url is None else {}
    runs = project is not None and running_router(project) is not None
    decision = _named(parsed.model, config) or decide(parsed.facts, config, unavailable if runs else {})
    return Route(
        tier=decision.tier,
        reason=decision.reason,
        conversation_tokens=parsed.facts.conversation_tokens,
        context_tokens=parsed.facts.context_tokens,
        assumed={} if runs else unavailable,
    )


def body_of(text: str) -> bytes:
    """Return the chat request that a user's text makes."""
    return json.dumps({"model": AUTO, "messages": [{"role": "user", "content": text}]}).encode()


def _parse(body: bytes) -> ParsedRequest:
    try:
        fields = json.loads(body)
        return dialect_of(fields if isinstance(fields, dict) else {}).parse(body)
    except (BadRequestError, ValueError, RecursionError) as error:
        raise LlmstackError(
            f"expected the JSON body of a chat completion or completion request: {error}",
            hint='for example {"messages": [{"role": "user", "content": "hello"}]}',
        ) from error


def _named(model: str | None, config: StackConfig) -> Decision | None:
    if not model or model == AUTO:
        return None
    tier = config.find(model)
    if tier is None:
        raise LlmstackError(
            f"no model is called `{model}`", hint=f"known are auto, {', '.join(config.tiers)}"
        )
    return Decision(tier.name, "named")
