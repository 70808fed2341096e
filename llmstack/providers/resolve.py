"""Resolve `<provider>/<id>` and the environment to an endpoint: an address, headers and limits. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmstack.config.values import nearest
from llmstack.providers.catalog import (
    KEY_PLACEHOLDER,
    MCP_PROVIDERS,
    PATHS,
    PROVIDERS,
    REASONING_FIELDS,
    RESERVED_PREFIX,
    Dialect,
    Provider,
)
from llmstack.providers.errors import MissingKeyError, OwnAddressError, UnknownModelError
from llmstack.providers.limits import ModelLimits

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from llmstack.providers.model_aliases import ModelAliases

ANTHROPIC_VERSION = "2023-06-01"
DEFAULT, BASE_URL = "the default", "base_url"
"""Values of `Endpoint.address_source`; any other value is the name of a variable."""
_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address for requests to one model, and what they carry.

    Attributes:
        provider: the prefix.
        model: its full name, as the provider knows it.
        root: address of the API, including the version; no closing slash.
        address_source: what set the address, in words: `OLLAMA_BASE_URL`, `base_url`, `the default`.
        dialects: APIs that the server serves; requests in other APIs are translated to the first one.
        headers: the credentials; never shown.
        limits: what the model does not accept.
        is_local: whether the developer runs the server.
    """

    provider: str
    model: str
    root: str
    address_source: str
    dialects: tuple[Dialect, ...]
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    limits: ModelLimits = field(repr=False, default_factory=ModelLimits)
    is_local: bool = False

    @property
    def label(self) -> str:
        """Provider and model, as written in models.ini."""
        return f"{self.provider}/{self.model}"

    @property
    def address_with_source(self) -> str:
        """The address and what set it, for messages."""
        return f"{self.root} (from {self.address_source})"

    @property
    def unreachable_hint(self) -> str:
        """What the user can do if nothing answers at a local server's address."""
        provider = PROVIDERS.get(self.provider)
        if provider is None:
            return "is the stack running? see `llmstack status`"
        if self.address_source == BASE_URL:
            return f"start {provider.program} there, or correct `{BASE_URL}`"
        variable = self.address_source if self.address_source != DEFAULT else provider.url_variables[0]
        return f"start {provider.program} there, or set {variable} to where it is"

    def url(self, dialect: Dialect) -> str:
        """Return the address of one API."""
        return f"{self.root}{PATHS[dialect]}"

    def default_headers(self, dialect: Dialect) -> dict[str, str]:
        """Return headers for a request that does not bring its own."""
        version = {"anthropic-version": ANTHROPIC_VERSION} if dialect == "messages" else {}
        return {"content-type": "application/json", **version}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials themselves, to be redacted from every text."""
        values = [value.removeprefix("Bearer ") for value in self.headers.values()]
        return tuple(value for value in values if value and value != KEY_PLACEHOLDER)


def split_name(name: str) -> tuple[str, str]:
    """Split `<provider>/<id>` into provider and model; the model is empty if only a provider is named.

    Raises:
        UnknownModelError: no such provider, a reserved one, or nothing after the slash.
    """
    provider, slash, model = name.partition("/")
    if provider == RESERVED_PREFIX:
        raise UnknownModelError(
            f"`{RESERVED_PREFIX}/` is reserved",
            hint=f"write `openai/{model or '<id>'}` and set OPENAI_BASE_URL, or use a tier's `base_url`",
        )
    names = [*PROVIDERS, *MCP_PROVIDERS]
    if provider not in names:
        near = nearest(provider, names)
        hint = f"did you mean `{near[0]}/{model}`?" if near else f"there are {', '.join(names)}"
        raise UnknownModelError(f"no provider is called `{provider}`", hint=hint)
    if slash and not model.strip():
        raise UnknownModelError(
            f"`{name}` names no model",
            provider=provider,
            hint=f"write `{provider}/<id>`, the id as the server lists it",
        )
    return provider, model


def resolve(
    name: str,
    env: Mapping[str, str],
    aliases: ModelAliases,
    *,
    base_url: str | None = None,
    own_addresses: Collection[str] = (),
) -> Endpoint:
    """Return the endpoint of a model.

    Args:
        name: `<provider>/<id>`; the id may be a short name.
        env: the environment; an empty variable counts as unset.
        aliases: short names and limits.
        base_url: the tier's own address, which takes precedence over variables.
        own_addresses: addresses of this router, such as `http://127.0.0.1:10101`.

    Raises:
        UnknownModelError: no such provider, or no model is named and there is no default.
        OwnAddressError: the address is the router's own.
        MissingKeyError: the provider needs a key, and its variable is not set.
    """
    prefix, model = split_name(name)
    if prefix not in PROVIDERS:
        raise UnknownModelError(f"`{prefix}` is reached over MCP, it has no address", provider=prefix)
    provider = PROVIDERS[prefix]
    model = aliases.full_name(prefix, model) if model else aliases.default_model(prefix) or ""
    if not model:
        raise UnknownModelError(
            f"`{prefix}` has no default model", provider=prefix, hint=f"write `{prefix}/<id>`"
        )
    address, source = _find_address(provider, env, base_url)
    root = _add_api_root(address, provider.root)
    if any(is_same_listener(root, own_address) for own_address in own_addresses):
        raise OwnAddressError(
            f"{address} (from {source}) is this router's own address: {prefix} would be asked through itself",
            provider=prefix,
            hint="unset it here" if source != BASE_URL else f"correct `{BASE_URL}` in models.ini",
        )
    limits = aliases.limits_for(prefix, model)
    return Endpoint(
        provider=prefix,
        model=model,
        root=root,
        address_source=source,
        dialects=provider.dialects,
        headers=_credentials(provider, env, needs_key=source == DEFAULT and not provider.is_local),
        limits=limits.merge({"refuses": REASONING_FIELDS}) if provider.is_local else limits,
        is_local=provider.is_local,
    )


def _find_address(provider: Provider, env: Mapping[str, str], base_url: str | None) -> tuple[str, str]:
    """Return the address with the highest precedence, and what set it."""
    if base_url:
        return base_url, BASE_URL
    for variable in provider.url_variables:
        if value := env.get(variable, "").strip():
            if not _is_server_address(value):
                message = f"{variable}: expected an address such as {provider.address}"
                raise UnknownModelError(
                    message, provider=provider.name, hint="without user name, query or fragment"
                )
            return value, variable
    if host := env.get(provider.host_variable, "").strip():
        value = _parse_ollama_host(host, urlsplit(provider.address).port)
        if not _is_server_address(value):
            raise UnknownModelError(
                f"{provider.host_variable}: expected a host such as 127.0.0.1:11434", provider=provider.name
            )
        return value, provider.host_variable
    return provider.address, DEFAULT


def _parse_ollama_host(host: str, default_port: int | None) -> str:
    """Return the address that Ollama's own programs read from OLLAMA_HOST; empty if it is invalid.

    Args:
        host: `host`, `host:port` or a whole address.
        default_port: used if it names neither port nor scheme.
    """
    port = default_port
    scheme, _, rest = host.partition("://")
    if not rest:
        scheme, rest = "http", host
    elif scheme in _DEFAULT_PORTS:
        port = _DEFAULT_PORTS[scheme]
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or port
    except ValueError:  # the port is no number, or out of range
        return ""
    name = parts.hostname or "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}:{port}/{parts.path.strip('/')}".rstrip("/")


def _is_server_address(address: str) -> bool:
    """Return whether this is the address of a server. Never show the value: it may hold a password."""
    try:
        parts = urlsplit(address)
        plain = not (parts.query or parts.fragment or parts.username is not None or parts.port == 0)
    except ValueError:
        return False
    return plain and parts.scheme in _DEFAULT_PORTS and bool(parts.hostname)


def _credentials(provider: Provider, env: Mapping[str, str], *, needs_key: bool) -> dict[str, str]:
    key = next((value for name in provider.key_variables if (value := env.get(name, "").strip())), "")
    if not key and needs_key:
        first, *others = provider.key_variables
        alternatives = f" (or {', '.join(others)})" if others else ""
        raise MissingKeyError(
            f"{provider.name} needs a key, and {first}{alternatives} is not set",
            provider=provider.name,
            hint=f"export {first} in the environment",
        )
    if provider.key_header == "authorization":
        return {"authorization": f"Bearer {key or KEY_PLACEHOLDER}"}
    return {provider.key_header: key or KEY_PLACEHOLDER}


def _add_api_root(address: str, root: str) -> str:
    """Return an address with the path of the API, unless it contains a version already."""
    address = address.strip().rstrip("/")
    return address if _VERSION.search(urlsplit(address).path) else f"{address}{root}"


def is_same_listener(url: str, other_url: str) -> bool:
    """Return whether two addresses reach the same port of the same machine."""
    parts, other_parts = urlsplit(url), urlsplit(other_url)
    ports = [each.port or _DEFAULT_PORTS.get(each.scheme) for each in (parts, other_parts)]
    if ports[0] != ports[1]:
        return False
    hosts = [(each.hostname or "").rstrip(".") for each in (parts, other_parts)]
    return hosts[0] == hosts[1] or (_is_this_machine(hosts[0]) and _is_this_machine(hosts[1]))


def _is_this_machine(host: str) -> bool:
    """Return whether a host is a loopback address or the unspecified one."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified
