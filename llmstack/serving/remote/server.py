"""Tiers that another server serves: one of the developer's own, or a provider's API."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from llmstack.config.model import BackendKind, HostedModel
from llmstack.providers.errors import ProviderError
from llmstack.providers.resolve import ANTHROPIC_VERSION, resolve
from llmstack.providers.translation import CannotTranslateError, choose_dialect, translate
from llmstack.serving.base import NO_SAMPLING_DEFAULTS, ModelState, SamplingDefaults
from llmstack.serving.errors import FailureReport, RequestFailedError, TierUnavailableError
from llmstack.serving.http_request import edit_large, edited_body
from llmstack.serving.remote.base import API_OF_PATH, RemoteBackend, RemoteLease
from llmstack.serving.response import TranslatedResponse
from llmstack.serving.sampling import sampling_defaults
from llmstack.units import MB
from llmstack.upstream.client import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from llmstack.config.model import StackConfig, Tier
    from llmstack.providers.catalog import Dialect as Api
    from llmstack.providers.limits import ModelLimits
    from llmstack.providers.model_aliases import ModelAliases
    from llmstack.providers.resolve import Endpoint
    from llmstack.providers.translation import TranslatedRequest
    from llmstack.serving.base import ModelRequest, ServerResponse
    from llmstack.serving.http_request import ServedModel
    from llmstack.serving.memory.survey import Survey
    from llmstack.upstream.client import Upstream

T = TypeVar("T")

MAX_TRANSLATED_BYTES = 32 * MB  # of a request; Anthropic accepts no more


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerLease(RemoteLease):
    """The right to use a model of another server.

    Attributes:
        upstream: the HTTP client.
        endpoint: the server's address, the APIs it speaks, and what the model does not accept.
        defaults: sampling values of models.ini.
        max_tokens: limit of an answer, for providers that require one, if the client gives none.
    """

    upstream: Upstream
    endpoint: Endpoint
    defaults: SamplingDefaults = NO_SAMPLING_DEFAULTS
    max_tokens: int | None = None
    slot: None = None

    async def send(self, request: ModelRequest) -> ServerResponse:
        """Send a request, translated if the server does not speak the client's API."""
        endpoint = self.endpoint
        path, mark, query = request.target.partition("?")
        client_api = API_OF_PATH.get(path)
        headers = {**request.headers, **endpoint.headers}
        server_api = choose_dialect(client_api, endpoint.dialects) if client_api is not None else None
        if client_api is None or server_api is None:
            url = endpoint.url(client_api) if client_api is not None else _url_of_path(endpoint.root, path)
            body = request.body
            if request.rewrites_body:
                body = await self._edit(request, partial(_fit, limits=endpoint.limits))
            headers = {**endpoint.default_headers(client_api or "chat"), **headers}
            with _naming_server(endpoint):
                response = await self.upstream.send(request.method, f"{url}{mark}{query}", headers, body)
            return TranslatedResponse(response, request.format_error, self.secrets, None, request.worker)
        translated = await self._translate(request, client_api, server_api)
        headers = {name: value for name, value in headers.items() if not name.startswith("anthropic-")}
        headers = {**endpoint.default_headers(server_api), **headers}
        with _naming_server(endpoint):
            response = await self.upstream.send(
                request.method, endpoint.url(server_api), headers, translated.body
            )
        return TranslatedResponse(response, request.format_error, self.secrets, translated, request.worker)

    def _for_version(self, request: ModelRequest) -> ServerLease:
        """Return a lease without sampling defaults if the client speaks a newer version of Anthropic's API.

        Newer versions accept no sampling values at all.
        """
        newer = request.headers.get("anthropic-version", ANTHROPIC_VERSION) > ANTHROPIC_VERSION
        return replace(self, defaults=NO_SAMPLING_DEFAULTS) if newer and not self.endpoint.is_local else self

    async def _edit(self, request: ModelRequest, edit: Callable[[ModelRequest, ServedModel], T]) -> T:
        """Return `edit(request, self)`, called in the worker if the body is large.

        Raises:
            RequestFailedError: it takes too long or too much memory.
        """
        served = self._for_version(request)
        if not request.is_large:
            return edit(request, served)
        return await edit_large(request, served, edit)

    async def _translate(self, request: ModelRequest, client_api: Api, server_api: Api) -> TranslatedRequest:
        if len(request.body) > MAX_TRANSLATED_BYTES:
            text = f"{self.tier} is {self.endpoint.label}, which speaks another API:"
            text += f" a request must be at most {MAX_TRANSLATED_BYTES // MB} MB"
            raise RequestFailedError(FailureReport(413, "body_too_large", text))
        edit = partial(
            _translate_body,
            client_api=client_api,
            server_api=server_api,
            limits=self.endpoint.limits,
            max_tokens=self.max_tokens,
        )
        try:
            return await self._edit(request, edit)
        except CannotTranslateError as error:
            text = f"{self.tier} is {self.endpoint.label}, which speaks another API: {error.message}"
            raise RequestFailedError(FailureReport(400, "cannot_translate", text)) from error


class ServerBackend(RemoteBackend):
    """Serves every tier whose backend is `server`. A `Backend`.

    Args:
        config: tiers as the running channel has them.
        unavailable: tiers that cannot be reached, because a key or an address is missing.
        env: addresses and keys.
        aliases: short names and limits of models.
        own_addresses: of this router, which must not call itself.
        upstream: the HTTP client.
    """

    def __init__(
        self,
        config: StackConfig,
        unavailable: Mapping[str, str],
        env: Mapping[str, str],
        aliases: ModelAliases,
        own_addresses: Collection[str],
        *,
        upstream: Upstream,
    ) -> None:
        self._env = env
        self._aliases = aliases
        self._own_addresses = own_addresses
        self._upstream = upstream
        self._leases: dict[str, ServerLease] = {}
        self._problems: dict[str, ProviderError] = {}
        self._configure(config, unavailable)

    async def acquire(
        self,
        tier: str,
        session: str = "",  # noqa: ARG002 - part of the protocol
        *,
        pinned: bool = True,  # noqa: ARG002
    ) -> ServerLease:
        """Return the right to use a tier: there is nothing to wait for.

        Raises:
            TierUnavailableError: its address cannot be used, or the tier no longer exists.
        """
        if tier in self._leases:
            return self._leases[tier]
        problem = self._problems.get(tier)
        if problem is None:
            raise TierUnavailableError(f"{tier} is not served any more", retry_after=1)
        raise TierUnavailableError(problem.message, hint=problem.hint)

    def state(self, tier: str) -> ModelState:
        """Return what is known of a tier; nothing is probed."""
        problem = self._problems.get(tier)
        return ModelState("remote") if problem is None else ModelState("down", detail=problem.message)

    def status(self) -> dict[str, Any] | None:
        """Return the address of each tier; None if there is no such tier."""
        return {name: lease.endpoint.root for name, lease in self._leases.items()} or None

    async def reload(self, config: StackConfig, survey: Survey) -> list[str]:
        """Apply edited tiers; no request is cut."""
        self._configure(config, survey.unavailable)
        return []

    async def close(self) -> None:
        """Nothing was started."""

    def _configure(self, config: StackConfig, unavailable: Mapping[str, str]) -> None:
        self._leases, self._problems = {}, {}
        for name, tier in config.tiers.items():
            if (
                tier.backend is BackendKind.SERVER
                and name not in unavailable
                and isinstance(tier.model, HostedModel)
            ):
                try:
                    self._leases[name] = self._lease(tier, tier.model)
                except ProviderError as error:  # such as this router's own address
                    self._problems[name] = error

    def _lease(self, tier: Tier, model: HostedModel) -> ServerLease:
        endpoint = resolve(
            model.label, self._env, self._aliases, base_url=model.base_url, own_addresses=self._own_addresses
        )
        return ServerLease(
            tier=tier.name,
            model=endpoint.model,
            upstream=self._upstream,
            endpoint=endpoint,
            defaults=sampling_defaults(tier, self._aliases),
            secrets=endpoint.secrets,
            max_tokens=tier.max_output_tokens,
        )


def _fit(request: ModelRequest, served: ServedModel, *, limits: ModelLimits) -> bytes:
    return limits.fit_bytes(edited_body(request, served))


def _translate_body(
    request: ModelRequest,
    served: ServedModel,
    *,
    client_api: Api,
    server_api: Api,
    limits: ModelLimits,
    max_tokens: int | None,
) -> TranslatedRequest:
    return translate(
        edited_body(request, served),
        client_api,
        server_api,
        model=served.model,
        limits=limits,
        now=int(time.time()),
        max_tokens=max_tokens,
    )


@contextmanager
def _naming_server(endpoint: Endpoint) -> Iterator[None]:
    """Name the server if it does not answer, since the user has set its address."""
    try:
        yield
    except UpstreamError as error:
        remedy = f" ({endpoint.unreachable_hint})" if endpoint.is_local else ""
        raise UpstreamError(f"{endpoint.address_with_source}: {error}{remedy}") from error


def _url_of_path(root: str, path: str) -> str:
    """Return the URL of a path that belongs to none of the three APIs, at a server with this API root."""
    if path.startswith("/v1/"):
        return f"{root}{path.removeprefix('/v1')}"
    parts = urlsplit(root)
    return f"{parts.scheme}://{parts.netloc}{path}"
