"""`<provider>/<id>` and the environment → where a request goes and what it carries. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from llmstack.config.values import nearest
from llmstack.providers.catalog import (
    EFFORT,
    MCP_FORMS,
    PATHS,
    PLACEHOLDER,
    PROVIDERS,
    RESERVED,
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
"""Where an address may be from, beside a variable."""
_VERSION = re.compile(r"/v\d+[a-z0-9]*(?:/|$)")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests for one model go, and what they carry.

    Attributes:
        provider: the prefix.
        model: its full name, as the provider knows it.
        root: address of its API, up to and with the version; no closing slash.
        source: where the address is from, in words: `OLLAMA_BASE_URL`, `base_url`, `the default`.
        dialects: what it speaks itself; the first is the one to translate to.
        headers: the credentials; never shown.
        limits: what the model does not accept.
        local: a server of the developer's own.
    """

    provider: str
    model: str
    root: str
    source: str
    dialects: tuple[Dialect, ...]
    headers: Mapping[str, str] = field(repr=False, default_factory=dict)
    limits: ModelLimits = field(repr=False, default_factory=ModelLimits)
    local: bool = False

    @property
    def label(self) -> str:
        """Provider and model, as written in models.ini."""
        return f"{self.provider}/{self.model}"

    @property
    def whereabouts(self) -> str:
        """Its address, and where that is from."""
        return f"{self.root} (from {self.source})"

    @property
    def remedy(self) -> str:
        """What to do where nothing answers there, of a server of the developer's own."""
        known = PROVIDERS.get(self.provider)
        if known is None:
            return "is the stack running? see `llmstack status`"
        if self.source == BASE_URL:
            return f"start {known.program} there, or correct `{BASE_URL}`"
        variable = self.source if self.source != DEFAULT else known.url_variables[0]
        return f"start {known.program} there, or set {variable} to where it is"

    def url(self, dialect: Dialect) -> str:
        """Return the address of one API."""
        return f"{self.root}{PATHS[dialect]}"

    def defaults(self, dialect: Dialect) -> dict[str, str]:
        """Return headers for a request that does not bring its own."""
        version = {"anthropic-version": ANTHROPIC_VERSION} if dialect == "messages" else {}
        return {"content-type": "application/json", **version}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The credentials themselves, to be kept out of every text."""
        values = [value.removeprefix("Bearer ") for value in self.headers.values()]
        return tuple(value for value in values if value and value != PLACEHOLDER)


def split_name(name: str) -> tuple[str, str]:
    """Return provider and model of `<provider>/<id>`; the model is empty where only a provider is named.

    Raises:
        UnknownModelError: no such provider, a reserved one, or an id without a name.
    """
    provider, slash, model = name.partition("/")
    if provider == RESERVED:
        raise UnknownModelError(
            f"`{RESERVED}/` is reserved",
            hint=f"write `openai/{model or '<id>'}` and set OPENAI_BASE_URL, or use a tier's `base_url`",
        )
    known = [*PROVIDERS, *MCP_FORMS]
    if provider not in known:
        near = nearest(provider, known)
        hint = f"did you mean `{near[0]}/{model}`?" if near else f"there are {', '.join(known)}"
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
    known: ModelAliases,
    *,
    base_url: str | None = None,
    own: Collection[str] = (),
) -> Endpoint:
    """Return where a model is reached.

    Args:
        name: `<provider>/<id>`; the id may be a short name.
        env: variables that are empty count as unset.
        known: short names and limits.
        base_url: the tier's own address, before any variable.
        own: addresses of our own router, such as `http://127.0.0.1:10101`.

    Raises:
        UnknownModelError: no such provider, or no model is named and there is no default.
        OwnAddressError: the address is our own router's.
        MissingKeyError: the provider wants a key, and its variable is not set.
    """
    prefix, model = split_name(name)
    if prefix not in PROVIDERS:
        raise UnknownModelError(f"`{prefix}` is reached over MCP, it has no address", provider=prefix)
    provider = PROVIDERS[prefix]
    model = known.full_name(prefix, model) if model else known.default(prefix) or ""
    if not model:
        raise UnknownModelError(
            f"`{prefix}` has no default model", provider=prefix, hint=f"write `{prefix}/<id>`"
        )
    address, source = _address(provider, env, base_url)
    root = with_root(address, provider.root)
    if any(same_place(root, mine) for mine in own):
        raise OwnAddressError(
            f"{address} (from {source}) is this router's own address: {prefix} would be asked through itself",
            provider=prefix,
            hint="unset it here" if source != BASE_URL else f"correct `{BASE_URL}` in models.ini",
        )
    limits = known.limits(prefix, model)
    return Endpoint(
        provider=prefix,
        model=model,
        root=root,
        source=source,
        dialects=provider.dialects,
        headers=_credentials(provider, env, needed=source == DEFAULT and not provider.local),
        limits=limits.plus({"refuses": EFFORT}) if provider.local else limits,
        local=provider.local,
    )


def _address(provider: Provider, env: Mapping[str, str], base_url: str | None) -> tuple[str, str]:
    """Return the first address that is set, and where it was."""
    if base_url:
        return base_url, BASE_URL
    for variable in provider.url_variables:
        if value := env.get(variable, "").strip():
            if not _usable(value):
                message = f"{variable}: expected an address such as {provider.address}"
                raise UnknownModelError(
                    message, provider=provider.name, hint="without user name, query or fragment"
                )
            return value, variable
    if host := env.get(provider.host_variable, "").strip():
        value = named_by_host(host, urlsplit(provider.address).port)
        if not _usable(value):
            raise UnknownModelError(
                f"{provider.host_variable}: expected a host such as 127.0.0.1:11434", provider=provider.name
            )
        return value, provider.host_variable
    return provider.address, DEFAULT


def named_by_host(host: str, port: int | None) -> str:
    """Return the address that `host`, `host:port` or a whole address means to Ollama's own programs.

    Args:
        host: what OLLAMA_HOST holds.
        port: where it names neither port nor scheme.
    """
    scheme, _, rest = host.partition("://")
    if not rest:
        scheme, rest = "http", host
    elif scheme in _DEFAULT_PORTS:
        port = _DEFAULT_PORTS[scheme]
    try:
        parts = urlsplit(f"{scheme}://{rest}")
        port = parts.port or port
    except ValueError:  # no number, or none that a port has
        return ""
    name = parts.hostname or "127.0.0.1"
    name = f"[{name}]" if ":" in name else name
    return f"{scheme}://{name}:{port}/{parts.path.strip('/')}".rstrip("/")


def _usable(address: str) -> bool:
    """Return whether this is the address of a server; the value is not shown, it may hold a password."""
    try:
        parts = urlsplit(address)
        plain = not (parts.query or parts.fragment or parts.username is not None or parts.port == 0)
    except ValueError:
        return False
    return plain and parts.scheme in _DEFAULT_PORTS and bool(parts.hostname)


def _credentials(provider: Provider, env: Mapping[str, str], *, needed: bool) -> dict[str, str]:
    key = next((value for name in provider.key_variables if (value := env.get(name, "").strip())), "")
    if not key and needed:
        first, *others = provider.key_variables
        also = f" (or {', '.join(others)})" if others else ""
        raise MissingKeyError(
            f"{provider.name} wants a key, and {first}{also} is not set",
            provider=provider.name,
            hint=f"export {first} in the environment",
        )
    if provider.key_header == "authorization":
        return {"authorization": f"Bearer {key or PLACEHOLDER}"}
    return {provider.key_header: key or PLACEHOLDER}


def with_root(address: str, root: str) -> str:
    """Return an address with the API's path, unless it names a version already."""
    address = address.strip().rstrip("/")
    return address if _VERSION.search(urlsplit(address).path) else f"{address}{root}"


def same_place(url: str, mine: str) -> bool:
    """Return whether two addresses are one listener on this machine."""
    there, here = urlsplit(url), urlsplit(mine)
    ports = [parts.port or _DEFAULT_PORTS.get(parts.scheme) for parts in (there, here)]
    if ports[0] != ports[1]:
        return False
    hosts = [(parts.hostname or "").rstrip(".") for parts in (there, here)]
    return hosts[0] == hosts[1] or (_here(hosts[0]) and _here(hosts[1]))


def _here(host: str) -> bool:
    """Return whether a host is this machine's loopback, or any of its addresses."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback or (mapped or address).is_unspecified
