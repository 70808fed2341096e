"""Tiers behind a tool of a stdio MCP server, which is started with the first request."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from llmstack.config.model import BackendKind, McpModel
from llmstack.process.output_log import OutputLog, rotating_log
from llmstack.providers.errors import ProviderError, RateLimitedError, RejectedError
from llmstack.providers.limits import ModelLimits
from llmstack.providers.mcp import chat as mcp_chat
from llmstack.providers.mcp.source import McpSource
from llmstack.providers.translation import CannotTranslateError, translate
from llmstack.serving.base import NO_SAMPLING_DEFAULTS, ModelState, SamplingDefaults
from llmstack.serving.errors import FailureReport, RequestFailedError, TierUnavailableError
from llmstack.serving.http_request import edit_large
from llmstack.serving.remote.base import API_OF_PATH, RemoteBackend, RemoteLease
from llmstack.serving.response import EVENT_STREAM, JSON, StaticResponse, TranslatedResponse
from llmstack.units import MB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from llmstack.config.model import StackConfig
    from llmstack.paths import Project
    from llmstack.providers.base import PromptRequest
    from llmstack.providers.catalog import Dialect as Api
    from llmstack.providers.translation import TranslatedRequest
    from llmstack.serving.base import ModelRequest, ServerResponse
    from llmstack.serving.http_request import ServedModel
    from llmstack.serving.memory.survey import Survey

MAX_MESSAGE_BYTES = 4 * MB  # of a request, which becomes one message to the server


@dataclass(frozen=True, slots=True, kw_only=True)
class McpLease(RemoteLease):
    """The right to call one tool, which knows chat completions only."""

    source: McpSource
    defaults: SamplingDefaults = NO_SAMPLING_DEFAULTS
    slot: None = None

    async def send(self, request: ModelRequest) -> ServerResponse:
        """Call the tool with a request, translated if it is not a chat completion."""
        client_api = API_OF_PATH.get(request.target.partition("?")[0])
        if client_api is None or request.method != "POST":
            what = f"{request.method} {request.target[:200]}"
            text = f"{self.tier} is a tool of an MCP server, which serves no {what}"
            raise RequestFailedError(FailureReport(HTTPStatus.NOT_FOUND, "not_found", text))
        if len(request.body) > MAX_MESSAGE_BYTES:
            text = f"{self.tier} is a tool of an MCP server: a request must be at most "
            text += f"{MAX_MESSAGE_BYTES // MB} MB"
            raise RequestFailedError(FailureReport(413, "body_too_large", text))
        try:
            if not request.is_large:
                translated, ask, streams = _parse(request, self, client_api=client_api)
            else:
                translated, ask, streams = await edit_large(
                    request, self, partial(_parse, client_api=client_api)
                )
            result = await self.source.answer(ask)
        except CannotTranslateError as error:
            report = FailureReport(HTTPStatus.BAD_REQUEST, "cannot_translate", error.message)
            raise RequestFailedError(report) from error
        except ProviderError as error:
            report = _failure_report(error)
            return StaticResponse(report.status, request.format_error(report), JSON)
        build_body = mcp_chat.write_chat_events if streams else mcp_chat.write_chat_completion
        body = build_body(result, now=int(time.time()), completion_id=secrets.token_hex(8))
        response = StaticResponse(HTTPStatus.OK, body, EVENT_STREAM if streams else JSON)
        if translated is None:
            return response
        return TranslatedResponse(response, request.format_error, (), translated, request.worker)


def _parse(
    request: ModelRequest, served: ServedModel, *, client_api: Api
) -> tuple[TranslatedRequest | None, PromptRequest, bool]:
    """Return the translated request if it is not a chat completion, what it asks, and whether it streams."""
    translated, body = None, request.body
    if client_api != "chat":
        translated = translate(
            body, client_api, "chat", model=served.model, limits=ModelLimits(), now=int(time.time())
        )
        body = translated.body
    return (translated, *mcp_chat.parse_chat_request(body))


@dataclass(slots=True)
class _Served:
    model: McpModel
    source: McpSource
    log: OutputLog

    async def close(self) -> None:
        await self.source.close()
        self.log.close()


class McpBackend(RemoteBackend):
    """Serves every tier whose backend is `mcp`. A `Backend`.

    Args:
        project: for the logs of the servers.
        config: tiers as the running channel has them.
        unavailable: tiers whose server cannot be started.
        env: environment of the servers.
    """

    def __init__(
        self, project: Project, config: StackConfig, unavailable: Mapping[str, str], env: Mapping[str, str]
    ) -> None:
        self._project = project
        self._env = env
        self._served: dict[str, _Served] = {}
        self._add(_mcp_models(config, unavailable))

    async def acquire(
        self,
        tier: str,
        session: str = "",  # noqa: ARG002 - part of the protocol
        *,
        pinned: bool = True,  # noqa: ARG002
    ) -> McpLease:
        """Return the right to call a tier's tool.

        Raises:
            TierUnavailableError: the tier no longer exists.
        """
        served = self._served.get(tier)
        if served is None:
            raise TierUnavailableError(f"{tier} is not served any more", retry_after=1)
        return McpLease(tier=tier, model=tier, source=served.source)

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier: whether its server runs."""
        served = self._served.get(tier)
        return ModelState("resident" if served is not None and served.source.is_running else "idle")

    def status(self) -> dict[str, Any] | None:
        """Return None: the states of the tiers say everything."""
        return None

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply edited tiers; a server whose command changed is ended, and its calls are cut."""
        models = _mcp_models(config, survey.unavailable)
        ended = [name for name, served in self._served.items() if models.get(name) != served.model]
        await asyncio.gather(*(self._served.pop(name).close() for name in ended))
        self._add({name: model for name, model in models.items() if name not in self._served})
        return [f"the MCP server of {name} was ended, its calls were cut" for name in ended]

    async def close(self) -> None:
        """End every server."""
        await asyncio.gather(*(served.close() for served in self._served.values()))
        self._served.clear()

    def _add(self, models: Mapping[str, McpModel]) -> None:
        for name, model in models.items():
            log = OutputLog(rotating_log(self._project.log(name)))
            source = McpSource(model.command, model.tool, env=self._env, provider=name, log=log.feed)
            self._served[name] = _Served(model, source, log)


def _mcp_models(config: StackConfig, unavailable: Mapping[str, str]) -> dict[str, McpModel]:
    return {
        name: tier.model
        for name, tier in config.tiers.items()
        if tier.backend is BackendKind.MCP and name not in unavailable and isinstance(tier.model, McpModel)
    }


def _failure_report(error: ProviderError) -> FailureReport:
    text = f"{error.message} ({error.hint})" if error.hint else error.message
    return FailureReport(_status_of(error), "mcp_failed", text, "provider")


def _status_of(error: ProviderError) -> int:
    if isinstance(error, RateLimitedError):
        return HTTPStatus.TOO_MANY_REQUESTS
    if isinstance(error, RejectedError):
        return error.status or HTTPStatus.BAD_REQUEST
    return HTTPStatus.BAD_GATEWAY
