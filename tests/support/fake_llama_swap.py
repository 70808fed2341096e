"""A fake llama-swap: the part of its behaviour that the stack relies on, in one small program.

Unlike the real one, it rejects unknown configuration keys, so that a misspelt key fails a test.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shlex
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from ruamel.yaml import YAML

REAL_PROGRAM = os.environ.get("LLAMA_SWAP_BIN")  # read before a test's environment is emptied
TOP_LEVEL_KEYS = {
    *("healthCheckTimeout", "logLevel", "logToStdout", "startPort", "sendLoadingState", "apiKeys", "models"),
    *("includeAliasesInList", "globalTTL", "unloadTimeout", "macros", "routing", "peers"),
    "captureBuffer",
}
MODEL_KEYS = {
    *("cmd", "cmdStop", "proxy", "checkEndpoint", "ttl", "aliases", "env", "name", "description", "unlisted"),
    *("useModelName", "concurrencyLimit", "filters", "metadata", "sendLoadingState"),
}
MATRIX_KEYS = {"vars", "evict_costs", "sets"}
_MACRO = re.compile(r"\$\{([^}]*)\}")


def read_config(path: Path) -> dict[str, Any]:
    """Read a configuration as llama-swap does: variables, ports and macros. Exit if it is invalid."""
    text = _MACRO.sub(_from_environment, path.read_text(encoding="utf-8"))
    document: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    _refuse_unknown(set(document) - TOP_LEVEL_KEYS, "top level")
    if not all(document.get("apiKeys", [])):
        sys.exit("empty api key found in apiKeys")
    port = document.get("startPort", 5800)
    for name in sorted(document["models"]):
        model = document["models"][name]
        _refuse_unknown(set(model) - MODEL_KEYS, name)
        if "${PORT}" in model["cmd"]:
            for key in ("cmd", "proxy", "checkEndpoint"):
                if key in model:
                    model[key] = model[key].replace("${PORT}", str(port))
            model["port"] = port
            port += 1
        _refuse_unknown(set(_MACRO.findall(json.dumps(model))), f"macros of {name}")
    router = document.get("routing", {}).get("router", {"use": "matrix", "settings": {"matrix": {}}})
    if router["use"] != "matrix":
        _refuse_unknown({str(router["use"])}, "router")
    _refuse_unknown(set(router["settings"]["matrix"]) - MATRIX_KEYS, "matrix")
    return document


def _from_environment(macro: re.Match[str]) -> str:
    name = macro[1]
    if not name.startswith("env."):
        return macro[0]
    if name[4:] not in os.environ:
        sys.exit(f"environment variable {name[4:]} is not set")
    return os.environ[name[4:]]


def _refuse_unknown(unknown: set[str], section: str) -> None:
    if unknown:
        sys.exit(f"{section}: unknown {sorted(unknown)}")


def split_command(command: str) -> list[str]:
    lines = [line for line in command.split("\n") if not line.strip().startswith("#")]
    return shlex.split(" ".join(line.removesuffix("\\") for line in lines))


def model_sets(document: dict[str, Any]) -> list[set[str]]:
    """Return the sets of models that may run together. Only `a & b` is supported, as that is generated."""
    matrix = document.get("routing", {}).get("router", {}).get("settings", {}).get("matrix", {})
    names = matrix.get("vars", {})
    return [{names.get(word, word) for word in text.split(" & ")} for text in matrix.get("sets", {}).values()]


@dataclass
class Model:
    name: str
    config: dict[str, Any]
    process: asyncio.subprocess.Process | None = None
    state: str = "stopped"
    lines: list[bytes] = field(default_factory=list)
    reading: asyncio.Task[None] | None = None
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def start(self) -> str | None:
        """Start the model server and wait until it is healthy; return an error message if it is not."""
        env = dict(os.environ) | dict(entry.split("=", 1) for entry in self.config.get("env", []))
        self.state = "starting"
        self.process = process = await asyncio.create_subprocess_exec(
            *split_command(self.config["cmd"]),
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self.reading = asyncio.create_task(self._read(process))
        async with aiohttp.ClientSession() as session:
            while process.returncode is None:
                with contextlib.suppress(aiohttp.ClientError):
                    url = self.config["proxy"] + self.config["checkEndpoint"]
                    async with session.get(url) as response:
                        if response.status == 200:
                            self.state = "ready"
                            return None
                await asyncio.sleep(0.02)
        await self.reading
        self.state = "stopped"
        return "upstream command exited prematurely"

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            self.lines.append(line)
            sys.stdout.buffer.write(line)
            sys.stdout.flush()
        await process.wait()
        if self.process is process:
            self.state = "stopped"

    async def stop(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.state = "stopping"
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGTERM)
            await self.process.wait()
        self.state = "stopped"


class Swap:
    def __init__(self, config: Path, *, open_upstream: bool) -> None:
        self.config = config
        self.open_upstream = open_upstream
        self.document = read_config(config)
        self.models = {name: Model(name, config) for name, config in self.document["models"].items()}
        self.changing = asyncio.Lock()

    async def reload(self) -> None:
        await self.stop()
        self.document = read_config(self.config)
        self.models = {name: Model(name, config) for name, config in self.document["models"].items()}

    async def stop(self) -> None:
        await asyncio.gather(*(model.stop() for model in self.models.values()))

    def find(self, name: str) -> Model | None:
        for model in self.models.values():
            if name in {model.name, *model.config.get("aliases", [])}:
                return model
        return None

    async def ensure_loaded(self, model: Model) -> str | None:
        async with self.changing:
            if model.state == "ready":
                return None
            running = {other.name for other in self.models.values() if other.state != "stopped"}
            together = max(
                (one for one in model_sets(self.document) if model.name in one),
                key=lambda one: len(one & running),
                default={model.name},
            )
            await asyncio.gather(*(self.models[name].stop() for name in running - together))
            return await model.start()

    # HTTP

    def check_key(self, request: web.Request) -> web.Response | None:
        keys = self.document.get("apiKeys", [])
        if self.open_upstream and request.path.startswith("/upstream/"):
            return None
        bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if keys and (bearer or request.headers.get("x-api-key", "")) not in keys:
            return error_response(401, "unauthorized: invalid or missing API key")
        return None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        if path == "/health":
            return web.Response(text="OK")
        if (error := self.check_key(request)) is not None:
            return error
        if path == "/running":
            running = [model for model in self.models.values() if model.state != "stopped"]
            return web.json_response(
                {"running": [{"model": model.name, "state": model.state} for model in running]}
            )
        if path == "/v1/models":
            return web.json_response({"data": [{"id": name} for name in self.models]})
        if path.startswith("/logs/stream/"):
            return await self.logs(request, path.removeprefix("/logs/stream/"))
        if path.startswith("/api/models/unload"):
            name = path.removeprefix("/api/models/unload").strip("/")
            model = self.find(name) if name else None
            await (model.stop() if model else self.stop())
            return web.Response(text="OK")
        if path.startswith("/upstream/"):
            name, _, rest = path.removeprefix("/upstream/").partition("/")
            return await self.forward(request, name, f"/{rest}")
        body = await request.json()
        return await self.forward(request, body["model"], path)

    async def logs(self, request: web.Request, name: str) -> web.StreamResponse:
        if name not in self.models:
            return error_response(400, "invalid log monitor")
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"".join(self.models[name].lines))
        await asyncio.sleep(30)
        return response

    async def forward(self, request: web.Request, name: str, path: str) -> web.StreamResponse:
        model = self.find(name)
        if model is None:
            return error_response(404, "no router for requested model")
        if (error := await self.ensure_loaded(model)) is not None:
            return error_response(500, f"unspecific error: {error}")
        excluded = {"authorization", "x-api-key", "host", "content-length", "connection"}
        headers = {name: value for name, value in request.headers.items() if name.lower() not in excluded}
        url = f"{model.config['proxy']}{path}"
        async with aiohttp.ClientSession(auto_decompress=False) as session:
            try:
                upstream = await session.request(
                    request.method, url, headers=headers, data=await request.read(), params=request.query
                )
            except aiohttp.ClientError:
                return web.Response(status=502)
            headers = {"content-type": upstream.headers.get("content-type", "")}
            response = web.StreamResponse(status=upstream.status, headers=headers)
            await response.prepare(request)
            with contextlib.suppress(aiohttp.ClientError):  # the response ends where the model server's ends
                async for chunk in upstream.content.iter_any():
                    await response.write(chunk)
            await response.write_eof()
            return response


def error_response(status: int, message: str) -> web.Response:
    return web.json_response({"error": message, "src": "llama-swap"}, status=status)


async def serve(config: Path, listen: str, *, open_upstream: bool) -> None:
    swap = Swap(config, open_upstream=open_upstream)
    application = web.Application(client_max_size=2**27)
    application.router.add_route("*", "/{path:.*}", swap.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    host, _, port = listen.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    stop_requested = asyncio.Event()
    loop = asyncio.get_running_loop()
    tasks: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGTERM, stop_requested.set)
    loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(asyncio.create_task(swap.reload())))
    print("[INFO] the fake listens on", listen, flush=True)
    await stop_requested.wait()
    await swap.stop()
    await runner.cleanup()


def install(directory: Path, *, older: bool = False) -> Path:
    """Install `llama-swap` into a directory: this program, or the real one that `LLAMA_SWAP_BIN` names.

    With `older`, it is always this program, and requires no key below /upstream, as older releases did.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "llama-swap"
    path.unlink(missing_ok=True)
    if REAL_PROGRAM and not older:
        path.symlink_to(REAL_PROGRAM)
        return path
    flags = "sys.argv.append('-open-upstream')\n" if older else ""
    run = f"runpy.run_path({str(Path(__file__).resolve())!r}, run_name='__main__')\n"
    path.write_text(f"#!{sys.executable}\nimport runpy, sys\n{flags}{run}")
    path.chmod(0o755)
    return path


if __name__ == "__main__":
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-config", type=Path, required=True)
    parser.add_argument("-listen", required=True)
    parser.add_argument("-open-upstream", action="store_true")
    options = parser.parse_args()
    asyncio.run(serve(options.config, options.listen, open_upstream=options.open_upstream))
