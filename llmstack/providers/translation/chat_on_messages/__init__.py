"""Serve Chat Completions on a provider of the Messages API (Anthropic)."""

from llmstack.providers.translation.chat_on_messages.request import translate_request
from llmstack.providers.translation.chat_on_messages.response import translate_response
from llmstack.providers.translation.chat_on_messages.stream import MessagesStreamToChat

__all__ = ["MessagesStreamToChat", "translate_request", "translate_response"]
