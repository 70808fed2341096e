"""A client of OpenAI's responses at a chat-completions server."""
