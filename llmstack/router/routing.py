"""Deciding where a client's request goes."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict
from functools import partial
from posixpath import normpath
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from llmstack.policy.decision import AUTO, ContextOverflowError, Decision, NoTierError, NotServedError
from llmstack.policy.facts import RequestFacts
from llmstack.policy.named_model import decide_named
from llmstack.policy.session_policy import decide
from llmstack.process.worker import WorkerFailedError
from llmstack.router.dialects.base import BadRequestError, ParsedRequest
from llmstack.router.dialects.openai import Untranslated
from llmstack.router.dialects.table import dialects, guess_dialect
from llmstack.router.routed_request import RoutedRequest
from llmstack.router.sessions import find_session_name
from llmstack.serving.errors import FailureReport, RequestFailedError
from llmstack.serving.http_request import TOO_COMPLEX

if TYPE_CHECKING:
    from llmstack.process.worker import Worker
    from llmstack.router.dialects.base import Dialect
    from llmstack.router.http.exchange import Exchange
    from llmstack.router.service import Service

# All other methods only read, even those that are not registered (RFC 9110, section 9.2.1).
CHANGING_METHODS = frozenset(("POST", "PUT", "PATCH", "DELETE"))
UPSTREAM_PREFIX = "/upstream/"  # as llama-swap has it: /upstream/<tier>/<path of the engine>


def plan(
    exchange: Exchange,
    dialect: Dialect | None,
    body: bytes,
    service: Service,
    parsed: ParsedRequest | RequestFailedError | None = None,
) -> RoutedRequest:
    """Decide where a request goes.

    Args:
        exchange: the request.
        dialect: the API of its path; None if `auto` does not serve that path.
        body: of the request.
        service: tiers and their availability.
        parsed: the result of `parse_large`; None if the body is not large.

    Raises:
        RequestFailedError: it cannot be served, and why.
    """
    if dialect is None:
        return _plan_other(exchange, body, service, parsed)
    if exchange.method != "POST":
        text = f"{exchange.path} takes POST, not {exchange.method}"
        raise RequestFailedError(FailureReport(405, "method_not_allowed", text, allow="POST"))
    parsed = _parse(dialect, body, parsed)
    name = find_session_name(exchange.headers, parsed.session_name)
    session_key = service.sessions.find_key(name, parsed.opening, parsed.facts)
    decision = decide_for(parsed.model, parsed.facts, service, session_key)
    if not parsed.model or parsed.model == AUTO:
        service.sessions.remember(session_key, parsed.facts, decision)
    return RoutedRequest(
        dialect,
        parsed.model or AUTO,
        decision.tier,
        decision.reason,
        exchange.target,
        body,
        parsed,
        alternatives=decision.others,
        session_key=session_key,
    )


def _plan_other(
    exchange: Exchange,
    body: bytes,
    service: Service,
    parsed_before: ParsedRequest | RequestFailedError | None,
) -> RoutedRequest:
    """Route any other path to the tier that it names: in its path, its body, or its query."""
    dialect, target = Untranslated(), exchange.target
    reads_only = exchange.method not in CHANGING_METHODS
    tier, rest = _upstream_path(target)
    if not reads_only and _changes_slots(rest):
        text = f"{exchange.path[:200]}: the router alone saves, restores and erases the slots of its models"
        raise RequestFailedError(FailureReport(403, "forbidden", text))
    if tier and tier != AUTO:
        parsed = ParsedRequest(None, stream=False, facts=RequestFacts())
        with contextlib.suppress(RequestFailedError):  # the engine checks what it is sent there
            parsed = _parse(dialect, body, parsed_before)
        decision = decide_for(tier, RequestFacts(), service)
        return RoutedRequest(
            dialect,
            tier,
            decision.tier,
            decision.reason,
            rest,
            body,
            parsed,
            rewrites_body=False,
            reads_only=reads_only,
        )
    parsed = _parse(dialect, body, parsed_before)
    model = parsed.model or _query_model(target)
    if not model or model == AUTO or not target.startswith("/"):
        expected = f"a `model` that names a tier ({', '.join(service.config.tiers)}) to pass it on to"
        text = f"{exchange.method} {exchange.path[:200]}: expected a path of this router, or {expected}"
        raise RequestFailedError(FailureReport(404, "not_found", text))
    decision = decide_for(model, RequestFacts(), service)
    return RoutedRequest(
        dialect,
        model,
        decision.tier,
        decision.reason,
        target,
        body,
        parsed,
        rewrites_body=bool(parsed.model),
        reads_only=reads_only,
    )


async def parse_large(path: str, body: bytes, worker: Worker) -> ParsedRequest | RequestFailedError:
    """Return what a large body says, or why it cannot be served. It is read in another process."""
    try:
        return await worker.run(partial(_parse_as, path), body)
    except BadRequestError as error:
        return RequestFailedError(FailureReport(400, "invalid_request", f"the request: {error}"))
    except WorkerFailedError:
        return RequestFailedError(TOO_COMPLEX)


def _parse_as(path: str, body: bytes) -> ParsedRequest:
    """Return what a body says in the API of a path."""
    dialect = dialects().get(path)
    return dialect.parse(body) if dialect is not None else Untranslated().parse(body)


def _parse(
    dialect: Dialect, body: bytes, parsed: ParsedRequest | RequestFailedError | None = None
) -> ParsedRequest:
    if isinstance(parsed, RequestFailedError):
        raise parsed
    if parsed is not None:
        return parsed
    try:
        return dialect.parse(body)
    except BadRequestError as error:
        raise RequestFailedError(FailureReport(400, "invalid_request", f"the request: {error}")) from error


def decide_for(
    model: str | None, facts: RequestFacts, service: Service, session_key: str = "", *, explain: bool = False
) -> Decision:
    """Decide where a request goes; nothing is remembered.

    Args:
        model: that it names.
        facts: the facts of it that a decision depends on.
        service: tiers and their state.
        session_key: of its conversation; empty if there is none.
        explain: also return the rules that were tried.

    Raises:
        RequestFailedError: it cannot be served, and why.
    """
    config, sessions = service.config, service.sessions
    state = service.stack_state()
    if not model or model == AUTO:
        try:
            before, now = sessions.get(session_key), sessions.clock()
            return decide(facts, config, state, before, now, explain=explain)
        except ContextOverflowError as error:
            text = f"{error.message} ({error.hint})"
            report = FailureReport(
                400, "context_length_exceeded", text, needed=error.needed, window=error.window
            )
            raise RequestFailedError(report) from error
        except NoTierError as error:
            status = 404 if isinstance(error, NotServedError) else 503
            report = FailureReport(status, "no_tier", f"{error.message} ({error.hint})")
            raise RequestFailedError(report) from error
    tier = config.find(model)
    if tier is None:
        names = [AUTO, *config.tiers, *(alias for tier in config.tiers.values() for alias in tier.aliases)]
        text = f"no model is called `{model[:100]}`; known are {', '.join(names)}"
        raise RequestFailedError(FailureReport(404, "model_not_found", text))
    if tier.name in state.unavailable:
        text = f"{tier.name} cannot start: {state.unavailable[tier.name]}"
        raise RequestFailedError(FailureReport(503, "model_unavailable", text))
    return decide_named(model, tier, facts, config, state)


def explain(body: dict[str, Any], name: str, service: Service) -> dict[str, Any]:
    """Return where a request would go and every rule that was tried; nothing is sent or remembered.

    Args:
        body: of the request, of any API that `auto` serves.
        name: of its conversation, as a client's header would say it; may be empty.
        service: tiers and their state.

    Raises:
        RequestFailedError: it cannot be served, and why.
    """
    parsed = _parse(guess_dialect(body), json.dumps(body).encode())
    session_key = service.sessions.find_key(name or parsed.session_name or "", parsed.opening, parsed.facts)
    decision = decide_for(parsed.model, parsed.facts, service, session_key, explain=True)
    return {
        "tier": decision.tier,
        "reason": decision.reason,
        "others": decision.others,
        "considered": [asdict(rule) for rule in decision.considered],
        "conversation_tokens": parsed.facts.conversation_tokens,
        "context_tokens": parsed.facts.context_tokens,
        "session_known": service.sessions.get(session_key) is not None,
    }


def _upstream_path(target: str) -> tuple[str, str]:
    """Return tier and target of `/upstream/<tier>/...`; an empty tier for any other path."""
    if not target.startswith(UPSTREAM_PREFIX):
        return "", target
    path, mark, query = target.removeprefix(UPSTREAM_PREFIX).partition("?")
    tier, _, rest = path.partition("/")
    return unquote(tier), f"/{rest}{mark}{query}"


def _changes_slots(target: str) -> bool:
    """Return whether llama.cpp would save, restore or erase a slot, however a proxy reads the path.

    It writes to any name that the request gives, among the saved prompt caches of all projects.
    """
    path, decoded = "", target.partition("?")[0]
    while path != decoded:
        path, decoded = decoded, unquote(decoded)
    return normpath(f"/{path.lstrip('/')}").startswith("/slots/")


def _query_model(target: str) -> str | None:
    """Return the model that a query names."""
    try:
        values = parse_qs(target.partition("?")[2]).get("model")
    except ValueError:  # more fields than Python reads
        return None
    return values[0] if values else None
