"""The whole stack for real in a temporary project: tiny models, one request down every path."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.config import parse, profile_text
from llmstack.config.edit import with_value
from llmstack.config.network import api_key
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.paths import Project
from llmstack.stack.demo.models import build_demo_models, demo_models_of
from llmstack.stack.demo.requests import demo_requests
from llmstack.stack.install.install import InstallOptions, install
from llmstack.stack.lifecycle.start import StartOptions, up
from llmstack.stack.lifecycle.stop import down
from llmstack.stack.remote.router_client import RouterClient
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.paths import UserDirs
    from llmstack.stack.demo.requests import DemoRequest

REQUEST_S = 120.0
OF_A_PROJECT = ("LLMSTACK_WORK_DIR", "LLMSTACK_MODELS_INI")  # of one that is no part of the demo


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """What came back.

    Attributes:
        ttft_ms: from sending to the first token, loading the model included.
        tokens_per_s: of the generation, as the engine measured it.
        resident: models that were up afterwards.
    """

    request: str
    expected: str
    heard: str
    tier: str
    reason: str
    status: int
    answer: str
    ttft_ms: float
    tokens_per_s: float | None
    resident: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Answered by the tier that was to answer, and about what was said."""
        return self.status == httpx.codes.OK and self.tier == self.expected and self.heard in self.answer


@dataclass(frozen=True, slots=True)
class Demo:
    """The whole demo.

    Attributes:
        url: of the router; it still runs only where `kept`.
        swaps: models that had to go for another.
    """

    requests: list[DemoAnswer]
    swapper: str
    engine: str
    url: str
    work_dir: Path
    swaps: int
    seconds: float
    kept: bool

    @property
    def ok(self) -> bool:
        """Every request was answered as expected."""
        return all(request.ok for request in self.requests)


def demo(
    user: UserDirs,
    env: Mapping[str, str],
    *,
    keep: bool = False,
    tell: Callable[[str], None] = lambda _: None,
) -> Demo:
    """Set the stack up in a temporary project, ask every path, and stop it again.

    Args:
        user: where the tiny models go.
        env: for the router.
        keep: leave the stack running, where every request was answered as expected.
        tell: called with what is going on.
    """
    began = time.monotonic()
    env = {name: value for name, value in env.items() if name not in OF_A_PROJECT}
    work_dir = Path(tempfile.mkdtemp(prefix="llmstack-demo-"))
    project = Project.at(work_dir, {})
    kept = False
    try:
        tell("building the models")
        _install(project, user, env)
        started = up(project, env, user.trusted_projects, StartOptions(), tell=tell)
        answers, swaps, swapper = _ask_all(started.url, env, tell)
        done = Demo(
            requests=answers,
            swapper=swapper["kind"],
            engine=swapper["engine"],
            url=started.url,
            work_dir=work_dir,
            swaps=swaps,
            seconds=time.monotonic() - began,
            kept=False,
        )
        kept = keep and done.ok
        return replace(done, kept=kept)
    finally:
        if not kept:
            _clean_up(project, user)


def _install(project: Project, user: UserDirs, env: Mapping[str, str]) -> None:
    """Write the project: profile `demo` on ports that are free, so that a running stack is not disturbed."""
    text = profile_text("demo", demo_models=user.demo_models)
    names = ("router_port", "swap_port", "litellm_port", "start_port")
    for name, port in zip(names, _free_ports(len(names)), strict=True):
        text = with_value(text, "DEFAULT", name, str(port))
    # Its requests come from ten conversations within seconds; each is to be seen on its own rung.
    text = with_value(text, "ROUTING", "sticky", "off")
    text = with_value(text, "DEFAULT", "kv_cache_gb", "0")  # it leaves nothing in the user's cache
    write_atomic(project.models_ini, text)
    config = parse(text, str(project.models_ini), base=project.state)
    build_demo_models(demo_models_of(config, user.demo_models), again=True)
    install(project, user, env, InstallOptions(trust=True), consent=lambda _: True)


def _free_ports(count: int) -> list[int]:
    """Return free ports, the last one far enough from the others for models to have the ones after it."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = sorted(held.getsockname()[1] for held in sockets)
    for held in sockets:
        held.close()
    return ports


def _clean_up(project: Project, user: UserDirs) -> None:
    down(project)
    trust_store.revoke(project.work_dir, user.trusted_projects)
    shutil.rmtree(project.work_dir, ignore_errors=True)


def _ask_all(
    url: str, env: Mapping[str, str], tell: Callable[[str], None]
) -> tuple[list[DemoAnswer], int, dict[str, Any]]:
    key = api_key(env, "LLMSTACK_API_KEY")
    client = RouterClient(url, key)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    answers, resident, swaps = [], _resident(client), 0
    with httpx.Client(base_url=url, headers=headers, timeout=REQUEST_S, trust_env=False) as http:
        for request in demo_requests():
            tell(f"asking: {request.name}")
            now = _ask(http, request)
            before, resident = resident, _resident(client)
            swaps += len(set(before) - set(resident))
            answers.append(replace(now, resident=resident))
    return answers, swaps, client.status()["swapper"]


def _resident(client: RouterClient) -> list[str]:
    return [tier["name"] for tier in client.status()["tiers"] if tier["state"] == "resident"]


def _ask(http: httpx.Client, request: DemoRequest) -> DemoAnswer:
    began = time.perf_counter()
    try:
        with http.stream("POST", "/v1/chat/completions", json=request.body) as response:
            first, text = 0.0, b""
            for chunk in response.iter_bytes():
                first = first or time.perf_counter()
                text += chunk
    except httpx.HTTPError as error:
        raise LlmstackError(f"demo request `{request.name}` failed: {error}") from error
    streamed = response.headers.get("content-type", "").startswith("text/event-stream")  # an error is not
    documents = _documents(text, streamed=streamed)
    timings: dict[str, float] = next(
        (document["timings"] for document in documents if document.get("timings")), {}
    )
    # An answer in one piece comes at its end: its first token was there when generation began.
    generating_ms = 0.0 if streamed else timings.get("predicted_ms", 0.0)
    speed = timings.get("predicted_per_second")
    return DemoAnswer(
        request=request.name,
        expected=request.expected,
        heard=request.heard,
        tier=response.headers.get("x-llmstack-tier", ""),
        reason=response.headers.get("x-llmstack-reason", ""),
        status=response.status_code,
        answer=_said(documents, streamed=streamed),
        ttft_ms=round((first - began) * 1000 - generating_ms, 1),
        tokens_per_s=round(speed, 1) if speed is not None else None,
    )


def _documents(text: bytes, *, streamed: bool) -> list[dict[str, Any]]:
    """Return the JSON documents of an answer."""
    if not streamed:
        return [json.loads(text)]
    events = (line.removeprefix(b"data: ") for line in text.splitlines() if line.startswith(b"data: {"))
    return [json.loads(event) for event in events]


def _said(documents: list[dict[str, Any]], *, streamed: bool) -> str:
    """Return what the model said, or the tool it called, or the error."""
    parts = []
    for document in documents:
        if "error" in document:
            return str(document["error"].get("message", ""))
        for choice in document.get("choices", []):
            message = choice.get("delta" if streamed else "message", {})
            parts.append(message.get("content") or "")
            for call in message.get("tool_calls") or []:
                function = call.get("function", {})
                parts.append(f"{function.get('name') or ''}({function.get('arguments') or ''})")
    return "".join(parts)
