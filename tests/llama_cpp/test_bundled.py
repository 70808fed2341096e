from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.net import free_port, listener
from support.waiting import wait_until

from llmstack.config.model import BackendKind, EngineSettings, GgufModel, RopeScaling, Sampler, Tier
from llmstack.llama_cpp.binary import EngineBinary
from llmstack.llama_cpp.command import server_env, server_flags
from llmstack.llama_cpp.tiny import write_echo, write_random

pytestmark = pytest.mark.engine
ENGINE = EngineBinary("bundled", Path(sys.executable))
KEY = "the-key-of-this-start"
TIER = Tier("a", BackendKind.GGUF, GgufModel(), 2048, engine=EngineSettings(threads=1, cache_ram_gb=0))
EVERYTHING = replace(
    TIER,
    sampler=Sampler(temp=0.2, top_p=0.9, top_k=20, min_p=0.05, rep_pen=1.05),
    engine=replace(
        TIER.engine,
        n_gpu_layers=0,
        parallel=3,
        flash_attn="off",
        jinja=False,
        cache_type_k="f16",
        cache_type_v="f16",
        rope_scaling=RopeScaling("yarn", 4.0, 1024),
        chat_template="chatml",
        extra_args=("--batch-size", "64", "--ubatch-size", "64", "--no-warmup", "--slot-save-path", "/tmp"),  # noqa: S108
    ),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "echo.gguf"
    write_echo(path, speaker="a", context=8192)
    return path


def start_server(tier: Tier, model: Path, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        ENGINE.argv((*server_flags(tier, model), "--host", "127.0.0.1", "--port", str(port))),
        env={**server_env(os.environ), "LLAMA_API_KEY": KEY},
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )


def fetch(port: int, path: str, key: str = KEY, body: object = None, origin: str = "") -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, headers | ({"origin": origin} if origin else {})
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - http
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, None
    except urllib.error.URLError:
        return 0, None


@pytest.mark.parametrize("tier", [TIER, EVERYTHING], ids=["minimal", "every flag"])
def test_it_accepts_every_flag_that_llmstack_uses_and_requires_its_key(model: Path, tier: Tier) -> None:
    port = free_port()
    with start_server(tier, model, port) as server:
        try:
            wait_until(lambda: fetch(port, "/health")[0] == 200)
            assert [fetch(port, "/props", key)[0] for key in ("", "wrong", KEY)] == [401, 401, 200]
            code, props = fetch(port, "/props")
            assert (code, props["total_slots"]) == (200, tier.engine.parallel)
            assert props["default_generation_settings"]["n_ctx"] == 2048
            assert [model["id"] for model in fetch(port, "/v1/models")[1]["data"]] == ["a"]
        finally:
            server.communicate()  # closes its stdin, which ends it
        assert server.returncode == 0


def test_it_answers_a_chat_request(model: Path) -> None:
    port = free_port()
    with start_server(TIER, model, port) as server:
        try:
            wait_until(lambda: fetch(port, "/health")[0] == 200)
            body = {"messages": [{"role": "user", "content": "hello"}]}
            assert fetch(port, "/v1/chat/completions", "wrong", body)[0] == 401
            _, answer = fetch(port, "/v1/chat/completions", KEY, body)
            assert answer["choices"][0]["message"]["content"] == "[a] You said: hello"
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(3)
            server.communicate()
        assert server.returncode == 0


def test_it_embeds_or_reranks_if_the_tier_serves_that(tmp_path: Path) -> None:
    model = tmp_path / "random.gguf"
    write_random(model, dim=64, layers=1)
    # A real embedding model names its pooling; this one does not.
    engine = replace(TIER.engine, extra_args=("--pooling", "mean"))
    port, tier = free_port(), replace(TIER, serves="embedding", engine=engine)
    with start_server(tier, model, port) as server:
        wait_until(lambda: fetch(port, "/health")[0] == 200)
        # longer than llama.cpp's own batch of 512
        code, answer = fetch(port, "/v1/embeddings", body={"input": ["a " * 700, "b"]})
        assert (code, [len(item["embedding"]) for item in answer["data"]]) == (200, [64, 64])
        server.communicate()
    port = free_port()
    with start_server(replace(TIER, serves="rerank"), model, port) as server:
        wait_until(lambda: fetch(port, "/health")[0] == 200)
        code, answer = fetch(port, "/v1/rerank", body={"query": "a", "documents": ["b", "c"]})
        assert (code, sorted(item["index"] for item in answer["results"])) == (200, [0, 1])
        server.communicate()


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "noise", "directory"])
def test_a_file_that_is_no_model_ends_the_server_with_an_error(
    tmp_path: Path, model: Path, damage: str
) -> None:
    path = tmp_path / "bad.gguf"
    contents = {"empty": b"", "cut": model.read_bytes()[:50_000], "noise": b"GGUF" + os.urandom(5000)}
    if damage == "directory":
        path.mkdir()
    elif damage != "missing":
        path.write_bytes(contents[damage])
    with start_server(TIER, path, free_port()) as server:
        assert server.wait(20) == 1
        assert server.stderr is not None
        assert "error" in server.stderr.read()


def test_a_port_in_use_ends_the_server(model: Path) -> None:
    with listener() as other, start_server(TIER, model, other.getsockname()[1]) as server:
        assert server.wait(20) == 1


def test_an_unknown_flag_ends_the_server(model: Path) -> None:
    tier = replace(TIER, engine=replace(TIER.engine, extra_args=("--no-such-flag",)))
    with start_server(tier, model, 1) as server:
        assert server.wait(20) == 2
        assert server.stderr is not None
        assert "unrecognized arguments: --no-such-flag" in server.stderr.read()
