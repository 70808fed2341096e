"""A client of Anthropic's messages at a chat-completions server."""
