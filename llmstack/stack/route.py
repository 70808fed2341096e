"""Which tier a request would go to, without sending it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmstack.config import parse, profile_text
from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO, Considered, StackState
from llmstack.policy.named_model import named
from llmstack.policy.session_policy import decide
from llmstack.router.dialects.base import BadRequestError
from llmstack.router.dialects.table import dialect_of
from llmstack.serving.memory.preflight import missing
from llmstack.stack.project import (
    active_channel,
    client_of_own,
    local_config,
    own_config,
    running_router,
)
from llmstack.stack.remote.remote_router import client_of, remote_url

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config import StackConfig
    from llmstack.paths import Project, UserDirs
    from llmstack.policy.decision import Decision
    from llmstack.router.dialects.base import ParsedRequest
    from llmstack.stack.remote.router_client import RouterClient


ASK_S = 10.0


@dataclass(frozen=True, slots=True)
class Route:
    """A decision, and what it rests on.

    Attributes:
        others: tiers that may serve in its place, best first.
        considered: every rule that was tried.
        running: a router was asked, which knows what is loaded and what each conversation has.
        session_known: it knows this conversation.
        assumed: with no stack running, the tiers that were taken as available and are not, with reasons.
    """

    tier: str
    reason: str
    conversation_tokens: int
    context_tokens: int
    others: tuple[str, ...] = ()
    considered: tuple[Considered, ...] = ()
    running: bool = False
    session_known: bool = False
    assumed: dict[str, str] = field(default_factory=dict)


def config_here(project: Project | None, user: UserDirs) -> StackConfig:
    """Return the project's configuration on its channel, the bundled default where there is no project.

    Raises:
        LlmstackError: models.ini is wrong, or is gone from a project that was installed.
    """
    own = own_config(project)
    if project is None or own is None:
        text = profile_text("default", demo_models=user.demo_models)
        return parse(text, "profile default", base=user.data)
    return own.on(active_channel(project).runs)


def route(
    body: bytes, project: Project | None, user: UserDirs, env: Mapping[str, str], session: str = ""
) -> Route:
    """Ask the running router where a request would go; decide here where there is none.

    Args:
        body: of the request.
        project: whose router and tiers; None for the bundled profile.
        user: directories.
        env: for the router's key, and what tiers need.
        session: the conversation, as a client's `x-session-id` names it.

    Raises:
        LlmstackError: the body is no request, or nothing can serve it.
    """
    parsed = _parse(body)
    router = _router(project, env)
    if router is not None:
        return _ask(body, router, session)
    config = config_here(project, user)
    decision = _named(parsed, config) or decide(parsed.facts, config, StackState(), explain=True)
    return Route(
        tier=decision.tier,
        reason=decision.reason,
        conversation_tokens=parsed.facts.conversation_tokens,
        context_tokens=parsed.facts.context_tokens,
        others=decision.others,
        considered=decision.considered,
        assumed=missing(config, env),
    )


def _router(project: Project | None, env: Mapping[str, str]) -> RouterClient | None:
    """Return the router that this project's requests go to; None where none runs."""
    url = remote_url(project)
    if url is not None:
        return client_of(url, env)
    daemon = running_router(project) if project is not None else None
    if project is None or daemon is None:
        return None
    config = local_config(project)
    return client_of_own(daemon, config, env)


def _ask(body: bytes, client: RouterClient, session: str) -> Route:
    question = json.dumps({"body": json.loads(body), "session": session}).encode()
    told = client.post("/llmstack/route", timeout_s=ASK_S, body=question)
    told["considered"] = tuple(Considered(**rule) for rule in told["considered"])
    told["others"] = tuple(told["others"])
    return Route(**told, running=True)


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


def _named(parsed: ParsedRequest, config: StackConfig) -> Decision | None:
    model = parsed.model
    if not model or model == AUTO:
        return None
    tier = config.find(model)
    if tier is None:
        raise LlmstackError(
            f"no model is called `{model}`", hint=f"known are auto, {', '.join(config.tiers)}"
        )
    return named(model, tier, parsed.facts, config, StackState())
