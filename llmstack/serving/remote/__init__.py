"""Tiers that somebody else's server serves: an HTTP API or an MCP server."""
