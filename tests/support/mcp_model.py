"""A fake model as an MCP server over stdio: `mcp_model.py KIND`.

A prompt that contains `crash`, `slow` or `fail` makes it do so, and `huge` returns 40 MB. `rich` uses the
official SDK, which takes a second to load; the others implement the protocol themselves. These do harm:

- `silent` does not list its tools, `pages` lists them without an end;
- `noisy` prints 100 MB to standard error and lines that are no messages to standard output;
- `pinging` sends requests without an end, and reads none of the answers;
- `stubborn` ignores that its input is closed, and SIGTERM.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

STRING = {"type": "string"}
PLAIN: dict[str, Any] = {"type": "object", "properties": {"question": STRING}, "required": ["question"]}
SCHEMAS: dict[str, dict[str, Any]] = {
    "plain": PLAIN,
    **dict.fromkeys(("silent", "pages", "noisy", "pinging", "stubborn"), PLAIN),
    "odd": {"type": "object", "properties": {"left": {"type": "integer"}, "right": {"type": "integer"}}},
}


def answer(prompt: str) -> str:
    """Return the process id and the prompt."""
    if "crash" in prompt:
        print("the weights are gone, and my key is", os.environ.get("SOME_API_KEY"), file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    return f"{os.getpid()}|{prompt}"


def respond(method: str, params: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        version = params["protocolVersion"]
        info = {"name": "a model", "version": "1"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "complete", "inputSchema": schema}]}
    prompt = params["arguments"].get("question", "")
    has_failed = "fail" in prompt
    text = "no weights" if has_failed else answer(prompt)
    if "huge" in prompt:
        text = "x" * 40_000_000
    return {"content": [{"type": "text", "text": text}], "isError": has_failed}


def harm(kind: str, request_id: int) -> None:
    """Do what a kind does before it lists its tools."""
    if kind == "silent":
        time.sleep(60)
    elif kind == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif kind == "pages":
        page = {"tools": [{"name": "other", "inputSchema": PLAIN}], "nextCursor": "more"}
        print(json.dumps({"jsonrpc": "2.0", "id": request_id, "result": page}), flush=True)
        sys.stdin.readline()
        harm(kind, request_id + 1)
    elif kind == "pinging":
        while True:
            os.write(1, b'{"jsonrpc":"2.0","id":1,"method":"ping"}\n' * 1000)
    elif kind == "noisy":
        for _ in range(1000):
            os.write(2, b"error\n" * 17_000)
        os.write(1, b"no message\n\n" * 5000)


def serve_by_hand(kind: str) -> None:
    listed = False
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if "slow" in str(message.get("params")):
            continue  # never respond
        if message["method"] == "tools/list" and not listed:
            listed = True
            harm(kind, message["id"])
        result = respond(message["method"], message.get("params") or {}, SCHEMAS[kind])
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
    if kind == "stubborn":
        time.sleep(60)


def serve_with_sdk() -> None:
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - takes a second

    server = MCPServer("a model")

    @server.tool()
    def complete(
        prompt: str, system: str = "", max_tokens: int = 0, temperature: float = 1.0, model: str = ""
    ) -> str:
        """Answer a prompt."""
        return answer(f"{prompt}|{system}|{max_tokens}|{temperature}|{model}")

    server.run("stdio")


if sys.argv[1] == "rich":
    serve_with_sdk()
elif sys.argv[1] in SCHEMAS:
    serve_by_hand(sys.argv[1])
else:
    sys.exit("no such model")
