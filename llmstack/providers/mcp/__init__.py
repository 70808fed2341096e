"""Call models behind MCP servers, and serve models as an MCP server."""
