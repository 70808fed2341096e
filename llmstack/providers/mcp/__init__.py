"""Models behind MCP servers, and models served as an MCP server."""
