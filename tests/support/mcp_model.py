"""A model as an MCP server over stdio: `mcp_model.py KIND`; asked to, it crashes, is slow, or fails.

`rich` is made with the official SDK; the others speak the protocol by hand, as that takes a second to load.
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


def said(words: str) -> str:
    """Answer with the process id and the words."""
    if "crash" in words:
        print("the weights are gone, and my key is", os.environ.get("SOME_API_KEY"), file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    return f"{os.getpid()}|{words}"


def result_of(method: str, params: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    if method == "initialize":
        version = params["protocolVersion"]
        info = {"name": "a model", "version": "1"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": [{"name": "complete", "inputSchema": schema}]}
    words = params["arguments"].get("question", "")
    failed = "fail" in words
    text = "no weights" if failed else said(words)
    return {"content": [{"type": "text", "text": text}], "isError": failed}


def by_hand(kind: str) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message or "method" not in message:
            continue
        if "slow" in str(message.get("params")):
            continue  # it never answers
        result = result_of(message["method"], message.get("params") or {}, SCHEMAS[kind])
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)


def with_the_sdk() -> None:
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - as said above

    server = MCPServer("a model")

    @server.tool()
    def complete(
        prompt: str, system: str = "", max_tokens: int = 0, temperature: float = 1.0, model: str = ""
    ) -> str:
        """Answer a prompt."""
        return said(f"{prompt}|{system}|{max_tokens}|{temperature}|{model}")

    server.run("stdio")


if sys.argv[1] == "rich":
    with_the_sdk()
elif sys.argv[1] in SCHEMAS:
    by_hand(sys.argv[1])
else:
    sys.exit("no such model")
