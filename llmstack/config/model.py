"""What a models.ini says, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Switch = Literal["on", "off", "auto"]
LocalChannel = Literal["current", "next"]
Modality = Literal["text", "image"]
Serves = Literal["chat", "embedding", "rerank"]

LOCAL_SERVERS = ("ollama", "vllm", "lm_studio", "llamacpp")
"""Prefixes of `model` that name a server which runs already."""

DIRECT_PROVIDERS = ("anthropic", "openai", "google", "gemini", "mistral")
"""Hosted prefixes that `backend = server` reaches without LiteLLM."""


class Role(StrEnum):
    """What a tier is for; `auto` and the client wiring find tiers by it."""

    FAST = "fast"
    AGENT = "agent"
    ULTRA = "ultra"
    PLAN = "plan"
    PLAN_UNCENSORED = "plan-uncensored"


class BackendKind(StrEnum):
    """How a tier is served."""

    GGUF = "gguf"
    LITELLM = "litellm"
    SERVER = "server"
    MCP = "mcp"


@dataclass(frozen=True, slots=True)
class Sampler:
    """Sampling defaults of a tier; None where the file does not set a value."""

    temp: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    rep_pen: float | None = None


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Context extension: `scale` times a native window of `orig_ctx` tokens."""

    kind: Literal["yarn", "linear"]
    scale: float
    orig_ctx: int


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A GGUF file: either `repo` and `file` at the model hub, or a local `path`."""

    repo: str | None = None
    file: str | None = None
    path: Path | None = None
    size_gb: float | None = None
    quant: str | None = None

    @property
    def label(self) -> str:
        """What a person calls it: the file's name."""
        return self.path.name if self.path is not None else str(self.file)


@dataclass(frozen=True, slots=True)
class HostedModel:
    """`<provider>/<id>`, served by LiteLLM, a local server or the provider's own API."""

    provider: str
    id: str
    base_url: str | None = None

    @property
    def label(self) -> str:
        """As written in models.ini."""
        return f"{self.provider}/{self.id}"


@dataclass(frozen=True, slots=True)
class McpModel:
    """A model behind one tool of a stdio MCP server."""

    command: tuple[str, ...]
    tool: str

    @property
    def label(self) -> str:
        """The program and the tool."""
        return f"{self.command[0]} {self.tool}"


Model = GgufModel | HostedModel | McpModel


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """llama.cpp settings of a gguf tier; from [DEFAULT] unless the tier says otherwise.

    Attributes:
        n_gpu_layers: layers on the GPU; None lets llama.cpp fit them itself.
        parallel: slots, each with its own `ctx_size` window.
        cache_ram_gb: prompt cache in RAM, per process.
        threads: -1 lets llama.cpp choose.
        cache_type_k: KV cache type for keys, as llama.cpp names it; likewise `cache_type_v`.
    """

    n_gpu_layers: int | None = None
    parallel: int = 2
    cache_ram_gb: float = 1.0
    flash_attn: Switch = "on"
    jinja: bool = True
    threads: int = -1
    cache_type_k: str = "q8_0"
    cache_type_v: str = "q8_0"
    rope_scaling: RopeScaling | None = None
    chat_template: str | None = None
    extra_args: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tier:
    """One named slot that requests are sent to.

    Attributes:
        ctx_size: tokens for one request (prompt and answer).
        max_output_tokens: cap on one answer; None where the file sets none.
        ttl: seconds idle before the model is unloaded; 0 is never.
        fallback: names of tiers that may serve in its place.
        model: what is served now; `queued` the upgrade that channel `next` runs.
        serves: what the model is made for; llama.cpp serves one of them per process.
        modalities: what it can read.
        channel: `next` where `model` is the queued one.
        line: where its section starts in the file.
        hosted: what is sent to it leaves this machine, as far as its `model` tells.
    """

    name: str
    backend: BackendKind
    model: Model
    ctx_size: int
    kind: Literal["code", "chat"] = "chat"
    role: Role | None = None
    next_model: Model | None = None
    aliases: tuple[str, ...] = ()
    max_output_tokens: int | None = None
    sampler: Sampler = Sampler()
    ttl: float = 0.0
    fallback: tuple[str, ...] = ()
    description: str = ""
    serves: Serves = "chat"
    modalities: tuple[Modality, ...] = ("text",)
    engine: EngineSettings = EngineSettings()
    channel: LocalChannel = "current"
    line: int = 0
    hosted: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Find out whether it is hosted: that is asked for with every request."""
        hosted = self.backend is BackendKind.MCP
        if isinstance(self.model, HostedModel):
            hosted = self.model.provider not in LOCAL_SERVERS
        object.__setattr__(self, "hosted", hosted)


@dataclass(frozen=True, slots=True)
class Settings:
    """The shared half of [DEFAULT].

    Attributes:
        memory_gb: budget for resident models; None means detect it.
        api_key_env: name of the variable with the key that clients must send.
        allowed_hosts: further `Host` names the router answers to.
        kv_cache_gb: budget for saved prompt caches; None means derive it from free disk.
    """

    host: str = "127.0.0.1"
    router_port: int = 10101
    swap_port: int = 10102
    litellm_port: int = 10103
    start_port: int = 10001
    swapper: Literal["auto", "builtin", "llama-swap"] = "auto"
    memory_gb: float | None = None
    api_key_env: str = "LLMSTACK_API_KEY"
    allowed_hosts: tuple[str, ...] = ()
    kv_cache_gb: float | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """[ROUTING]: the knobs of `auto`. Ceilings are tokens, estimated as characters / 4.

    Attributes:
        lowered_triggers: as they are compared, upper and lower case alike.
    """

    high_fidelity_ceiling: int = 12_000
    mid_fidelity_ceiling: int = 32_000
    multi_turn: int = 10
    ultra_triggers: tuple[str, ...] = ("[ultra]", "[opus]", "ultra:", "opus:")
    sticky: bool = True
    while_loading: Literal["wait", "resident"] = "wait"
    lowered_triggers: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Lower the triggers: they are looked for in every request."""
        object.__setattr__(self, "lowered_triggers", tuple(map(str.lower, self.ultra_triggers)))


@dataclass(frozen=True, slots=True)
class StackConfig:
    """A whole models.ini.

    Attributes:
        tiers: by name, in file order.
        source: the file it was read from, or a URL or profile name.
        text: the file as it was read, served to thin clients.
    """

    settings: Settings
    routing: Routing
    tiers: dict[str, Tier]
    source: str = ""
    text: str = field(default="", repr=False)
    _by_role: dict[Role, Tier] = field(init=False, repr=False, compare=False)
    _in_turn: dict[tuple[Role, ...], tuple[Tier, ...]] = field(
        init=False, repr=False, compare=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        """Find the roles: they are asked for with every request."""
        roles = {tier.role: tier for tier in reversed(self.tiers.values()) if tier.role is not None}
        object.__setattr__(self, "_by_role", roles)

    def by_role(self, role: Role) -> Tier | None:
        """Return the tier with this role, if one is declared."""
        return self._by_role.get(role)

    def in_turn(self, roles: tuple[Role, ...]) -> tuple[Tier, ...]:
        """Return the chat tiers with these roles, in their order."""
        found = self._in_turn.get(roles)
        if found is None:
            tiers = [self.by_role(role) for role in roles]
            found = tuple(tier for tier in tiers if tier is not None and tier.serves == "chat")
            self._in_turn[roles] = found
        return found

    def find(self, name: str) -> Tier | None:
        """Return the tier called `name`, or that has it as an alias."""
        if name in self.tiers:
            return self.tiers[name]
        return next((tier for tier in self.tiers.values() if name in tier.aliases), None)

    def for_channel(self, channel: LocalChannel) -> StackConfig:
        """Return the configuration as this channel runs it: `next` takes every queued upgrade."""
        if channel == "current":
            return self
        flipped = {
            name: replace(tier, model=tier.next_model, channel="next") if tier.next_model else tier
            for name, tier in self.tiers.items()
        }
        return replace(self, tiers=flipped)
