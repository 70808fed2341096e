"""The content of a models.ini as immutable values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Switch = Literal["on", "off", "auto"]
LocalChannel = Literal["current", "next"]
Modality = Literal["text", "image"]
Serves = Literal["chat", "embedding", "rerank"]

LOCAL_SERVERS = ("ollama", "vllm", "lm_studio", "llamacpp")
"""Prefixes of `model` that name a model server which is already running."""

DIRECT_PROVIDERS = ("anthropic", "openai", "google", "gemini", "mistral")
"""Prefixes of hosted models that `backend = server` can use without LiteLLM."""


class Role(StrEnum):
    """What a tier is for; `auto` and the generated client configurations look tiers up by role."""

    FAST = "fast"
    AGENT = "agent"
    ULTRA = "ultra"
    PLAN = "plan"
    PLAN_UNCENSORED = "plan-uncensored"


class BackendKind(StrEnum):
    """What serves a tier."""

    GGUF = "gguf"
    LITELLM = "litellm"
    SERVER = "server"
    MCP = "mcp"


@dataclass(frozen=True, slots=True)
class Sampler:
    """Sampling defaults of a tier; None for a value that the file does not set."""

    temp: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    rep_pen: float | None = None


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Extension of the context window to `scale` times the native `orig_ctx` tokens."""

    kind: Literal["yarn", "linear"]
    scale: float
    orig_ctx: int


@dataclass(frozen=True, slots=True)
class GgufModel:
    """A GGUF file: either `repo` and `file` on the model hub, or a local `path`."""

    repo: str | None = None
    file: str | None = None
    path: Path | None = None
    size_gb: float | None = None
    quant: str | None = None

    @property
    def label(self) -> str:
        """The file name, for display."""
        return self.path.name if self.path is not None else str(self.file)


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A model `<provider>/<id>`, served by LiteLLM, a local server or the provider's own API."""

    provider: str
    id: str
    base_url: str | None = None

    @property
    def label(self) -> str:
        """`<provider>/<id>`, as written in models.ini."""
        return f"{self.provider}/{self.id}"


@dataclass(frozen=True, slots=True)
class McpModel:
    """A model behind one tool of a stdio MCP server."""

    command: tuple[str, ...]
    tool: str

    @property
    def label(self) -> str:
        """The program and the tool, for display."""
        return f"{self.command[0]} {self.tool}"


Model = GgufModel | HostedModel | McpModel


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """llama.cpp settings of a gguf tier; values that the tier does not set come from [DEFAULT].

    Attributes:
        n_gpu_layers: number of layers on the GPU; None lets llama.cpp choose how many fit.
        parallel: number of slots, each with its own window of `ctx_size` tokens.
        cache_ram_gb: size of the prompt cache in RAM, per process.
        threads: -1 lets llama.cpp choose.
        cache_type_k: KV cache type for keys, as llama.cpp names it.
        cache_type_v: KV cache type for values.
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
    """One named model with its settings, to which requests are sent.

    Attributes:
        model: the model that is served now.
        ctx_size: window for one request (prompt and answer) in tokens.
        next_model: the queued upgrade, which channel `next` serves.
        max_output_tokens: maximum length of one answer; None if the file does not set it.
        ttl: idle time in seconds before the model is unloaded; 0 for never.
        fallback: names of tiers that may serve instead.
        serves: the kind of request that the model is made for; llama.cpp serves one kind per process.
        modalities: kinds of input that the model can read.
        channel: `next` if `model` is the queued upgrade.
        line: line of its section header in the file.
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

    @property
    def hosted(self) -> bool:
        """Whether requests leave this machine, as far as `model` tells."""
        if isinstance(self.model, HostedModel):
            return self.model.provider not in LOCAL_SERVERS
        return self.backend is BackendKind.MCP


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of the whole stack, from [DEFAULT].

    Attributes:
        memory_gb: memory budget for loaded models; None to detect it.
        api_key_env: name of the environment variable with the key that clients must send.
        allowed_hosts: additional `Host` names that the router accepts.
        kv_cache_gb: disk budget for saved prompt caches; None to derive it from the free disk space.
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
    """The settings of `auto`, from [ROUTING]. Ceilings are in tokens, estimated as characters / 4."""

    high_fidelity_ceiling: int = 12_000
    mid_fidelity_ceiling: int = 32_000
    multi_turn: int = 10
    ultra_triggers: tuple[str, ...] = ("[ultra]", "[opus]", "ultra:", "opus:")
    sticky: bool = True
    while_loading: Literal["wait", "resident"] = "wait"


@dataclass(frozen=True)
class StackConfig:
    """A whole models.ini.

    Attributes:
        tiers: tiers by name, in file order.
        source: the file, URL or profile that it was read from.
        text: the unchanged text of the file, served to thin clients.
    """

    settings: Settings
    routing: Routing
    tiers: dict[str, Tier]
    source: str = ""
    text: str = field(default="", repr=False)

    @cached_property
    def _tiers_by_role(self) -> dict[Role, Tier]:
        # A role belongs to one tier in a valid file; otherwise the first tier counts.
        return {tier.role: tier for tier in reversed(self.tiers.values()) if tier.role is not None}

    @cached_property
    def _chat_tiers(self) -> dict[tuple[Role, ...], tuple[Tier, ...]]:
        return {}  # filled by `chat_tiers`

    def chat_tiers(self, roles: tuple[Role, ...]) -> tuple[Tier, ...]:
        """Return the chat tiers with these roles, in the order of the roles."""
        tiers = self._chat_tiers.get(roles)
        if tiers is None:  # every request asks for the same few
            with_role = map(self.by_role, roles)
            tiers = tuple(tier for tier in with_role if tier is not None and tier.serves == "chat")
            self._chat_tiers[roles] = tiers
        return tiers

    def by_role(self, role: Role) -> Tier | None:
        """Return the tier with this role, or None."""
        return self._tiers_by_role.get(role)

    def find(self, name: str) -> Tier | None:
        """Return the tier with this name or alias, or None."""
        if name in self.tiers:
            return self.tiers[name]
        return next((tier for tier in self.tiers.values() if name in tier.aliases), None)

    def for_channel(self, channel: LocalChannel) -> StackConfig:
        """Return the configuration that a channel serves; in `next`, queued upgrades replace their models."""
        if channel == "current":
            return self
        tiers = {
            name: replace(tier, model=tier.next_model, channel="next") if tier.next_model else tier
            for name, tier in self.tiers.items()
        }
        return replace(self, tiers=tiers)
