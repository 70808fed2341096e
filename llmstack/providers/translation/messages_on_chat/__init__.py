"""Serve the Messages API (Anthropic) on a provider of Chat Completions."""

from llmstack.providers.translation.messages_on_chat.request import translate_request
from llmstack.providers.translation.messages_on_chat.response import translate_response
from llmstack.providers.translation.messages_on_chat.stream import ChatStreamToMessages

__all__ = ["ChatStreamToMessages", "translate_request", "translate_response"]
