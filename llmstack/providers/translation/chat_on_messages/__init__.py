"""A chat-completions client at a server of Anthropic's messages."""
