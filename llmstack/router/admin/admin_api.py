"""The routes that the router answers itself: models, status, metrics, load, unload, reload."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import Depends, FastAPI, Request
from fastapi.responses import PlainTextResponse, Response

from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.router.admin import status_json
from llmstack.router.admin.metrics import CONTENT_TYPE
from llmstack.router.dialects.openai import Untranslated
from llmstack.router.error_responses import unavailable_report
from llmstack.router.routing import explain
from llmstack.router_proof import CHALLENGE_PATH, is_nonce
from llmstack.serving.errors import (
    OUT_OF_FILES,
    FailureReport,
    RequestFailedError,
    TierUnavailableError,
    is_out_of_files,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmstack.config.model import Tier
    from llmstack.router.service import Service


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The ASGI application of these routes, and the paths that it serves in addition to `/llmstack/…`."""

    app: FastAPI
    paths: frozenset[str]


@dataclass(frozen=True, slots=True)
class RouteQuestion:
    """The body of a request, and the conversation it belongs to, as `x-session-id` would name it."""

    body: dict[str, Any]
    session: str = ""


def admin_api(service: Callable[[], Service]) -> AdminApi:
    """Return the routes; `service` is asked at each request."""
    app = FastAPI(
        title="llmstack",
        openapi_url="/llmstack/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_reads(app, service)
    _add_commands(app, service)
    app.add_exception_handler(RequestFailedError, _as_openai_error)
    app.add_exception_handler(404, _not_found)
    app.add_exception_handler(405, _wrong_method)
    app.add_exception_handler(500, _as_openai_error)
    return AdminApi(app, frozenset({"/", "/health", "/metrics", "/models.ini", "/v1/models", "/models"}))


def _add_reads(app: FastAPI, service: Callable[[], Service]) -> None:
    # Coroutines all: in a thread they would read the router's state while it changes.
    @app.api_route("/", methods=["GET", "HEAD"], response_class=PlainTextResponse, include_in_schema=False)
    async def root() -> str:
        """Say what this server is."""
        return "llmstack router: /v1/models, /v1/chat/completions, /llmstack/status, /models.ini\n"

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer; the router's own health."""
        return {"status": "ok"}

    @app.get("/models.ini", response_class=PlainTextResponse)
    async def models_ini() -> str:
        """Return the raw configuration, which thin clients read."""
        return service().config.text

    @app.get("/models", include_in_schema=False)
    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        """List `auto`, every tier and every alias."""
        return {"object": "list", "data": status_json.models(service())}

    @app.get(CHALLENGE_PATH)
    async def challenge(nonce: str = "") -> dict[str, str | None]:
        """Prove to a client that this is the router it expects, see router_proof. Needs no key."""
        if not is_nonce(nonce):
            text = "`nonce`: expected 64 hexadecimal digits"
            raise RequestFailedError(FailureReport(400, "invalid_request", text))
        return service().identity.answer(nonce)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the metrics, for Prometheus."""
        return Response(service().metrics.text(), media_type=CONTENT_TYPE)

    @app.post("/llmstack/route")
    async def route(question: RouteQuestion) -> dict[str, Any]:
        """Return where a request would go, without sending it or remembering it."""
        return explain(question.body, question.session, service())

    @app.get("/llmstack/status")
    async def status() -> dict[str, Any]:
        """Return what runs, and the last decisions."""
        return status_json.status(service())


def _add_commands(app: FastAPI, service: Callable[[], Service]) -> None:
    async def require_owner(request: Request) -> None:
        refusal = service().auth.check_change(request.headers)
        if refusal is not None:
            raise RequestFailedError(refusal)

    owner_only = [Depends(require_owner)]

    @app.post("/llmstack/load/{name}", dependencies=owner_only)
    async def load(name: str) -> dict[str, Any]:
        """Load a tier's model."""
        tier = _servable(service(), name)
        try:
            await service().backends[tier.backend].load(tier.name)
        except TierUnavailableError as error:
            raise RequestFailedError(unavailable_report(error)) from error
        return {"tier": tier.name, "state": service().state(tier).state}

    @app.post("/llmstack/reload", dependencies=owner_only)
    async def reload() -> dict[str, Any]:
        """Apply an edited models.ini."""
        try:
            return await service().reload()
        except LlmstackError as error:
            text = f"{error.message} ({error.hint})" if error.hint else error.message
            raise RequestFailedError(FailureReport(409, "reload_refused", text)) from error

    @app.post("/llmstack/unload", dependencies=owner_only)
    async def unload_all() -> dict[str, Any]:
        """Unload every model once its requests have ended."""
        running = [name for name, state in service().swapper.states().items() if state.pid is not None]
        return {"unloaded": [name for name in running if await service().swapper.unload(name)]}

    @app.post("/llmstack/unload/{name}", dependencies=owner_only)
    async def unload(name: str) -> dict[str, Any]:
        """Unload one tier once its requests have ended."""
        tier = _servable(service(), name)
        return {"unloaded": [tier.name] if await service().backends[tier.backend].unload(tier.name) else []}


def _servable(service: Service, name: str) -> Tier:
    """Return the tier of that name.

    Raises:
        RequestFailedError: there is none, or it cannot start.
    """
    tier = service.config.find(name)
    if tier is None or name == AUTO:
        tiers = ", ".join(service.config.tiers)
        text = f"no tier is called `{name[:100]}`; known are {tiers}"
        raise RequestFailedError(FailureReport(404, "model_not_found", text))
    if tier.name in service.unavailable:
        text = f"{tier.name} cannot start: {service.unavailable[tier.name]}"
        raise RequestFailedError(FailureReport(503, "model_unavailable", text))
    return tier


async def _as_openai_error(_request: Request, error: Exception) -> Response:
    unexpected = OUT_OF_FILES if is_out_of_files(error) else _BUG
    report = error.report if isinstance(error, RequestFailedError) else unexpected
    retry = {} if report.retry_after is None else {"retry-after": str(report.retry_after)}
    allow = {} if report.allow is None else {"allow": report.allow}
    body = Untranslated().error(report)
    return Response(body, report.status, headers=retry | allow, media_type="application/json")


async def _not_found(request: Request, _error: Exception) -> Response:
    paths = ", ".join(sorted({str(getattr(route, "path", "")) for route in request.app.routes}))
    text = f"{request.method} {request.url.path[:200]}: no such path; known are {paths}"
    return await _as_openai_error(request, RequestFailedError(FailureReport(404, "not_found", text)))


async def _wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "")
    text = f"{request.url.path[:200]} takes {allow}, not {request.method}"
    report = FailureReport(405, "method_not_allowed", text, allow=allow)
    return await _as_openai_error(request, RequestFailedError(report))


_BUG = FailureReport(500, "internal_error", "internal error, see the router's log")
