"""A fake model as an MCP server over stdio: `mcp_model.py KIND`.

A prompt that contains `crash`, `slow` or `fail` makes it do so. `rich` uses the official SDK, which takes a
second to load; the others implement the protocol themselves.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

STRING = {"type": "string"}
SCHEMAS: dict[str, dict[str, Any]] = {
    "plain": {"type": "object", "properties": {"question": STRING}, "required": ["question"]},
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
    return {"content": [{"type": "text", "text": text}], "isError": has_failed}


def serve_by_hand(kind: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if "slow" in str(message.get("params")):
            continue  # never respond
        result = respond(message["method"], message.get("params") or {}, SCHEMAS[kind])
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


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
