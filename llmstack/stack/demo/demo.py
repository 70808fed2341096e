"""Run the whole stack in a temporary project with tiny models, and send a request down every routing path."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from llmstack.config import parse, profile_text
from llmstack.config.edit import set_value
from llmstack.config.trusted import open_trusted
from llmstack.errors import LlmstackError
from llmstack.files import write_atomic
from llmstack.paths import Project
from llmstack.stack.demo.models import build_demo_models, find_demo_models
from llmstack.stack.demo.requests import demo_requests
from llmstack.stack.install.install import InstallOptions, install
from llmstack.stack.lifecycle.start import start_stack
from llmstack.stack.lifecycle.start_plan import StartOptions
from llmstack.stack.lifecycle.stop import stop_stack
from llmstack.stack.remote.router_client import RouterClient
from llmstack.stack.remote.router_documents import as_dict
from llmstack.stack.remote.router_secrets import OwnerToken
from llmstack.trust import store as trust_store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from llmstack.paths import UserDirs
    from llmstack.stack.demo.requests import DemoRequest

REQUEST_TIMEOUT_S = 120.0
PROJECT_VARIABLES = ("LLMSTACK_WORK_DIR", "LLMSTACK_MODELS_INI")  # they would point to the user's project


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """The response to one request; the attributes are the keys of `llmstack demo --json`.

    Attributes:
        request: the name of the request.
        expected: the tier that should answer; `tier` is the one that did.
        heard: a part of the prompt that the answer must repeat.
        reason: why the router chose the tier.
        answer: the text of the answer, or the message of an error.
        ttft_ms: time to first token, including loading the model.
        tokens_per_s: speed of the generation, measured by the engine.
        resident: the tiers that were loaded afterwards.
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
        """Whether the expected tier answered, and repeated the prompt."""
        return self.status == HTTPStatus.OK and self.tier == self.expected and self.heard in self.answer


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of the demo.

    Attributes:
        url: of the router.
        swaps: how often a model was unloaded to make room for another.
        seconds: how long the demo took.
        is_running: whether the stack was left running.
    """

    requests: list[DemoAnswer]
    swapper: str
    engine: str
    url: str
    work_dir: Path
    swaps: int
    seconds: float
    is_running: bool

    @property
    def ok(self) -> bool:
        """Whether every request was answered as expected."""
        return all(request.ok for request in self.requests)


def demo(
    user: UserDirs,
    env: Mapping[str, str],
    *,
    keep: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> DemoResult:
    """Start the stack in a temporary project, send every request, and stop it again.

    Args:
        user: for the directory of the tiny models, and the list of trusted projects.
        env: for the router.
        keep: leave the stack running if every request was answered as expected.
        notify: called with progress messages.
    """
    started_at = time.monotonic()
    env = {name: value for name, value in env.items() if name not in PROJECT_VARIABLES}
    work_dir = Path(tempfile.mkdtemp(prefix="llmstack-demo-"))
    project = Project.at(work_dir, {})
    is_running = False
    try:
        notify("building the models")
        _install(project, user, env)
        trusted = open_trusted(project, user)
        started = start_stack(trusted, env, StartOptions(), notify=notify)
        client = RouterClient(started.url, OwnerToken(trusted.private.router_token))
        answers, swaps, swapper = _send_all(client, notify)
        result = DemoResult(
            requests=answers,
            swapper=swapper["kind"],
            engine=swapper["engine"],
            url=started.url,
            work_dir=work_dir,
            swaps=swaps,
            seconds=time.monotonic() - started_at,
            is_running=False,
        )
        is_running = keep and result.ok
        return replace(result, is_running=is_running)
    finally:
        if not is_running:
            _clean_up(project, user)


def _install(project: Project, user: UserDirs, env: Mapping[str, str]) -> None:
    """Install profile `demo` on free ports, so that it does not disturb a running stack."""
    text = profile_text("demo", demo_models=user.demo_models)
    names = ("router_port", "swap_port", "litellm_port", "start_port")
    for name, port in zip(names, _free_ports(len(names)), strict=True):
        text = set_value(text, "DEFAULT", name, str(port))
    # The requests follow each other within seconds; without this, later ones would stay on the first tier.
    text = set_value(text, "ROUTING", "sticky", "off")
    text = set_value(text, "DEFAULT", "kv_cache_gb", "0")  # leave nothing in the user's cache
    write_atomic(project.models_ini, text)
    config = parse(text, str(project.models_ini), base=project.state)
    build_demo_models(find_demo_models(config, user.demo_models), again=True)
    install(project, user, env, InstallOptions(trust=True), consent=lambda _: True)


def _free_ports(count: int) -> list[int]:
    """Return free ports in ascending order; models use the ports after the last one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = sorted(server.getsockname()[1] for server in sockets)
    for server in sockets:
        server.close()
    return ports


def _clean_up(project: Project, user: UserDirs) -> None:
    stop_stack(project)
    trust_store.revoke(project.work_dir, user.trusted_projects)
    shutil.rmtree(project.work_dir, ignore_errors=True)


def _send_all(
    client: RouterClient, notify: Callable[[str], None]
) -> tuple[list[DemoAnswer], int, dict[str, Any]]:
    answers, loaded, swaps = [], _loaded_tiers(client), 0
    headers = client.authorize()
    with httpx.Client(
        base_url=client.url, headers=headers, timeout=REQUEST_TIMEOUT_S, trust_env=False
    ) as http:
        for request in demo_requests():
            notify(f"request: {request.name}")
            answer = _send(http, request)
            loaded_before, loaded = loaded, _loaded_tiers(client)
            swaps += len(set(loaded_before) - set(loaded))
            answers.append(replace(answer, resident=loaded))
    return answers, swaps, as_dict(client.status().swapper)


def _loaded_tiers(client: RouterClient) -> list[str]:
    return [tier.name for tier in client.status().tiers if tier.state == "resident"]


def _send(http: httpx.Client, request: DemoRequest) -> DemoAnswer:
    sent_at = time.perf_counter()
    try:
        with http.stream("POST", "/v1/chat/completions", json=request.body) as response:
            first_chunk_at, content = 0.0, b""
            for chunk in response.iter_bytes():
                first_chunk_at = first_chunk_at or time.perf_counter()
                content += chunk
    except httpx.HTTPError as error:
        raise LlmstackError(f"demo request `{request.name}` failed: {error}") from error
    streamed = response.headers.get("content-type", "").startswith("text/event-stream")
    documents = _parse_documents(content, streamed=streamed)
    timings: dict[str, float] = next(
        (document["timings"] for document in documents if document.get("timings")), {}
    )
    # Without streaming, the response arrives when the generation ends; the first token came when it began.
    generating_ms = 0.0 if streamed else timings.get("predicted_ms", 0.0)
    speed = timings.get("predicted_per_second")
    return DemoAnswer(
        request=request.name,
        expected=request.expected,
        heard=request.expected_text,
        tier=response.headers.get("x-llmstack-tier", ""),
        reason=response.headers.get("x-llmstack-reason", ""),
        status=response.status_code,
        answer=_answer_text(documents, streamed=streamed),
        ttft_ms=round((first_chunk_at - sent_at) * 1000 - generating_ms, 1),
        tokens_per_s=round(speed, 1) if speed is not None else None,
    )


def _parse_documents(content: bytes, *, streamed: bool) -> list[dict[str, Any]]:
    """Return the JSON documents of a response: one, or one for each event of a stream."""
    if not streamed:
        return [json.loads(content)]
    events = (line.removeprefix(b"data: ") for line in content.splitlines() if line.startswith(b"data: {"))
    return [json.loads(event) for event in events]


def _answer_text(documents: list[dict[str, Any]], *, streamed: bool) -> str:
    """Return the text of an answer, or its tool calls, or the message of an error."""
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
