"""HTTP/1.1 on plain asyncio protocols: the router's server, and its client for model servers."""
