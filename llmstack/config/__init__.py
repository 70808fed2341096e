"""models.ini, read into frozen values."""

from llmstack.config.bundled import enable_hosted, profile_names, profile_text
from llmstack.config.model import (
    DIRECT_PROVIDERS,
    LOCAL_SERVERS,
    Backend,
    EngineSettings,
    GgufModel,
    HostedModel,
    LocalChannel,
    McpModel,
    Model,
    Role,
    RopeScaling,
    Routing,
    Sampler,
    Settings,
    StackConfig,
    Switch,
    Tier,
)
from llmstack.config.parse import load, parse

__all__ = [
    "DIRECT_PROVIDERS",
    "LOCAL_SERVERS",
    "Backend",
    "EngineSettings",
    "GgufModel",
    "HostedModel",
    "LocalChannel",
    "McpModel",
    "Model",
    "Role",
    "RopeScaling",
    "Routing",
    "Sampler",
    "Settings",
    "StackConfig",
    "Switch",
    "Tier",
    "enable_hosted",
    "load",
    "parse",
    "profile_names",
    "profile_text",
]
