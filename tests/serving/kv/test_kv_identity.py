from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, RopeScaling, Sampler, Tier
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.serving.kv.identity import HEADER_BYTES, kv_identity

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 4 * HEADER_BYTES


class Setting:
    """A model, a LoRA and a native engine on disk."""

    def __init__(self, directory: Path) -> None:
        self.weights, self.lora, self.binary = (
            directory / name for name in ("a.gguf", "x.lora", "llama-server")
        )
        for path, size in ((self.weights, SIZE), (self.lora, 10), (self.binary, 10)):
            path.write_bytes(bytes(size))
        settings = EngineSettings(extra_args=(f"--lora={self.lora}:0.5",))
        self.tier = Tier("a", BackendKind.GGUF, GgufModel(), 4096, engine=settings)

    def identity(self) -> str:
        return kv_identity(self.tier, self.weights, EngineBinary("native", self.binary))

    def set(self, **settings: Any) -> None:
        self.tier = replace(self.tier, engine=replace(self.tier.engine, **settings))


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


def rewrite_keeping_date(path: Path, content: bytes) -> None:
    """Rewrite a file, but keep its date."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def change_weights(setting: Setting) -> None:
    rewrite_keeping_date(setting.weights, bytes(HEADER_BYTES) + b"\1" * (SIZE - HEADER_BYTES))


def change_header(setting: Setting) -> None:
    rewrite_keeping_date(setting.weights, b"\1" + bytes(SIZE - 1))


def change_end(setting: Setting) -> None:
    rewrite_keeping_date(setting.weights, bytes(SIZE - 1) + b"\1")


@pytest.mark.parametrize(
    "change",
    [
        change_weights,
        change_header,
        change_end,
        lambda setting: os.utime(setting.weights, (1, 1)),
        lambda setting: setting.weights.write_bytes(bytes(SIZE + 1)),
        lambda setting: os.utime(setting.lora, (1, 1)),
        lambda setting: setting.binary.write_bytes(b"upgraded"),
        lambda setting: setting.set(cache_type_k="f16"),
        lambda setting: setting.set(cache_type_v="f16"),
        lambda setting: setting.set(parallel=3),
        lambda setting: setting.set(flash_attn="off"),
        lambda setting: setting.set(rope_scaling=RopeScaling("yarn", 2.0, 2048)),
        lambda setting: setting.set(extra_args=()),
        lambda setting: setattr(setting, "tier", replace(setting.tier, ctx_size=8192)),
    ],
)
def test_the_identity_changes_with_what_a_cache_depends_on(
    setting: Setting, change: Callable[[Setting], None]
) -> None:
    before = setting.identity()
    change(setting)
    assert setting.identity() != before


def test_the_identity_ignores_what_a_cache_does_not_depend_on(setting: Setting) -> None:
    before = setting.identity()
    setting.set(threads=3, cache_ram_gb=4.0, chat_template="chatml", jinja=False)
    setting.tier = replace(setting.tier, name="b", sampler=Sampler(temp=0.5), ttl=60)
    assert setting.identity() == before
