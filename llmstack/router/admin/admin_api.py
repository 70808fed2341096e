"""The routes that the router answers itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, Response

from llmstack.errors import LlmstackError
from llmstack.policy.decision import AUTO
from llmstack.router.admin.metrics import CONTENT_TYPE
from llmstack.router.admin.status_json import models as models_of
from llmstack.router.admin.status_json import status as status_of
from llmstack.router.dialects.base import FailureReport, RequestFailedError
from llmstack.router.dialects.openai import Untranslated
from llmstack.router.forward import of_swapper
from llmstack.router.routing import explain
from llmstack.serving.base import TierUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from llmstack.config.model import Tier
    from llmstack.router.service import Service


@dataclass(frozen=True, slots=True)
class AdminApi:
    """The application of these routes, and the paths it serves besides `/llmstack/…`."""

    app: FastAPI
    paths: frozenset[str]


@dataclass(frozen=True, slots=True)
class RouteQuestion:
    """The body of a request, and the conversation it is sent for: as `x-session-id` names it."""

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
        """Say what this is."""
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
        return {"object": "list", "data": models_of(service())}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return what was counted, for Prometheus."""
        return Response(service().metrics.text(), media_type=CONTENT_TYPE)

    @app.post("/llmstack/route")
    async def route(asked: RouteQuestion) -> dict[str, Any]:
        """Say where a request would go, without sending it or remembering it."""
        return explain(asked.body, asked.session, service())

    @app.get("/llmstack/status")
    async def status() -> dict[str, Any]:
        """Tell what runs, and the last decisions."""
        return status_of(service())


def _add_commands(app: FastAPI, service: Callable[[], Service]) -> None:
    @app.post("/llmstack/load/{name}")
    async def load(name: str) -> dict[str, Any]:
        """Make a tier resident."""
        tier = _servable(service(), name)
        try:
            await service().swapper.load(tier.name)
        except TierUnavailableError as error:
            raise RequestFailedError(of_swapper(error)) from error
        return {"tier": tier.name, "state": service().state(tier).state}

    @app.post("/llmstack/reload")
    async def reload() -> dict[str, Any]:
        """Take up an edited models.ini."""
        try:
            return await service().reload()
        except LlmstackError as error:
            text = f"{error.message} ({error.hint})" if error.hint else error.message
            raise RequestFailedError(FailureReport(409, "reload_refused", text)) from error

    @app.post("/llmstack/unload")
    async def unload_all() -> dict[str, Any]:
        """Stop every resident model once its requests have ended."""
        resident = [name for name, state in service().swapper.states().items() if state.pid is not None]
        return {"unloaded": [name for name in resident if await service().swapper.unload(name)]}

    @app.post("/llmstack/unload/{name}")
    async def unload(name: str) -> dict[str, Any]:
        """Stop one tier once its requests have ended."""
        tier = _servable(service(), name)
        return {"unloaded": [tier.name] if await service().swapper.unload(tier.name) else []}


def _servable(service: Service, name: str) -> Tier:
    """Return the tier of that name that can be loaded here.

    Raises:
        RequestFailedError: there is none, or it cannot start.
    """
    tier = service.config.find(name)
    if tier is None or name == AUTO:
        known = ", ".join(service.config.tiers)
        text = f"no tier is called `{name[:100]}`; known are {known}"
        raise RequestFailedError(FailureReport(404, "model_not_found", text))
    if tier.name in service.unavailable:
        text = f"{tier.name} cannot start: {service.unavailable[tier.name]}"
        raise RequestFailedError(FailureReport(503, "model_unavailable", text))
    return tier


async def _as_openai_error(_request: Request, error: Exception) -> Response:
    report = error.report if isinstance(error, RequestFailedError) else _BUG
    retry = {} if report.retry_after is None else {"retry-after": str(report.retry_after)}
    allow = {} if report.allow is None else {"allow": report.allow}
    body = Untranslated().error(report)
    return Response(body, report.status, headers=retry | allow, media_type="application/json")


async def _not_found(request: Request, _error: Exception) -> Response:
    known = ", ".join(sorted({str(getattr(route, "path", "")) for route in request.app.routes}))
    text = f"{request.method} {request.url.path[:200]}: no such path; known are {known}"
    return await _as_openai_error(request, RequestFailedError(FailureReport(404, "not_found", text)))


async def _wrong_method(request: Request, error: Exception) -> Response:
    allow = (getattr(error, "headers", None) or {}).get("Allow", "")
    text = f"{request.url.path[:200]} takes {allow}, not {request.method}"
    report = FailureReport(405, "method_not_allowed", text, allow=allow)
    return await _as_openai_error(request, RequestFailedError(report))


_BUG = FailureReport(500, "internal_error", "internal error, see the router's log")
