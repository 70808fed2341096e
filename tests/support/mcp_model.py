"""A model as an MCP server over stdio, made with the official SDK: `mcp_model.py KIND`.

It says its process id; asked to, it crashes, is slow, or fails.
"""

from __future__ import annotations

import os
import sys
import time

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("a model")


def said(words: str) -> str:
    if "crash" in words:
        print("the weights are gone, and my key is", os.environ.get("SOME_API_KEY"), file=sys.stderr)
        sys.stderr.flush()
        os._exit(3)
    if "slow" in words:
        time.sleep(30)
    if "fail" in words:
        raise ToolError("no weights")
    return f"{os.getpid()}|{words}"


if sys.argv[1] == "plain":

    @server.tool(name="complete")
    def plain(question: str) -> str:
        """Answer a question."""
        return said(question)

elif sys.argv[1] == "rich":

    @server.tool(name="complete")
    def rich(
        prompt: str, system: str = "", max_tokens: int = 0, temperature: float = 1.0, model: str = ""
    ) -> str:
        """Answer a prompt."""
        return said(f"{prompt}|{system}|{max_tokens}|{temperature}|{model}")

elif sys.argv[1] == "odd":

    @server.tool(name="complete")
    def odd(left: int, right: int) -> int:
        """Add."""
        return left + right

else:
    sys.exit("no such model")

server.run("stdio")
