"""Predict which tier a request would go to, without sending it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO, RuleResult, StackState
from llmstack.policy.named_model import decide_named
from llmstack.policy.session_policy import decide
from llmstack.router.dialects.base import BadRequestError
from llmstack.router.dialects.table import guess_dialect
from llmstack.serving.memory.preflight import find_obstacles
from llmstack.stack.project import (
    config_or_default,
    make_client,
    require_config,
    router_address,
    running_router,
)
from llmstack.stack.remote.remote_router import make_remote_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.config.trusted import TrustedProject
    from llmstack.paths import UserDirs
    from llmstack.policy.decision import Decision
    from llmstack.router.dialects.base import ParsedRequest
    from llmstack.stack.remote.router_client import RouterClient


ROUTE_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Route:
    """A routing decision and its basis.

    Attributes:
        others: tiers that may serve instead, best first.
        considered: the result of every rule that was tried.
        running: a running router decided, which knows what is loaded and the state of each conversation.
        session_known: the router knows this conversation.
        assumed: tiers that were assumed to be available because nothing runs, with why they are not.
    """

    tier: str
    reason: str
    conversation_tokens: int
    context_tokens: int
    others: tuple[str, ...] = ()
    considered: tuple[RuleResult, ...] = ()
    running: bool = False
    session_known: bool = False
    assumed: dict[str, str] = field(default_factory=dict)


def route(
    body: bytes, trusted: TrustedProject | None, user: UserDirs, env: Mapping[str, str], session: str = ""
) -> Route:
    """Return where a request would go: the running router decides, otherwise this process does.

    Args:
        body: the JSON body of the request.
        trusted: whose router and tiers to use; None for the bundled default profile.
        user: the user's directories.
        env: for the router's key, and what tiers need to start.
        session: the conversation, as a client's `x-session-id` header names it.

    Raises:
        LlmstackError: the body is not a valid request, or no tier can serve it.
    """
    request = _parse(body)
    router = _find_router(trusted, env)
    if router is not None:
        return _ask_router(body, router, session)
    config = config_or_default(trusted, user)
    decision = _decide_named(request, config) or decide(request.facts, config, StackState(), explain=True)
    return Route(
        tier=decision.tier,
        reason=decision.reason,
        conversation_tokens=request.facts.conversation_tokens,
        context_tokens=request.facts.context_tokens,
        others=decision.others,
        considered=decision.considered,
        assumed=find_obstacles(config, env),
    )


def chat_body(text: str) -> bytes:
    """Return the body of a chat request with one user message."""
    return json.dumps({"model": AUTO, "messages": [{"role": "user", "content": text}]}).encode()


def _find_router(trusted: TrustedProject | None, env: Mapping[str, str]) -> RouterClient | None:
    """Return a client of the router that serves this project; None if none runs."""
    if trusted is None:
        return None
    if trusted.remote_url is not None:
        return make_remote_client(trusted.remote_url, env)
    daemon = running_router(trusted.project)
    if daemon is None:
        return None
    return make_client(trusted, router_address(daemon, require_config(trusted)))


def _ask_router(body: bytes, client: RouterClient, session: str) -> Route:
    request = json.dumps({"body": json.loads(body), "session": session}).encode()
    answer = client.route(request, ROUTE_TIMEOUT_S)
    return Route(
        tier=answer.tier,
        reason=answer.reason,
        conversation_tokens=answer.conversation_tokens,
        context_tokens=answer.context_tokens,
        others=answer.others,
        considered=tuple(RuleResult(rule.rule, rule.tier, rule.detail) for rule in answer.considered),
        running=True,
        session_known=answer.session_known,
    )


def _parse(body: bytes) -> ParsedRequest:
    try:
        fields = json.loads(body)
        return guess_dialect(fields if isinstance(fields, dict) else {}).parse(body)
    except (BadRequestError, ValueError, RecursionError) as error:
        raise LlmstackError(
            f"expected the JSON body of a chat completion or completion request: {error}",
            hint='for example {"messages": [{"role": "user", "content": "hello"}]}',
        ) from error


def _decide_named(request: ParsedRequest, config: StackConfig) -> Decision | None:
    """Return the decision for a request that names a tier; None for `auto`."""
    model = request.model
    if not model or model == AUTO:
        return None
    tier = config.find(model)
    if tier is None:
        raise LlmstackError(
            f"no model is called `{model}`", hint=f"there are auto, {', '.join(config.tiers)}"
        )
    return decide_named(model, tier, request.facts, config, StackState())
