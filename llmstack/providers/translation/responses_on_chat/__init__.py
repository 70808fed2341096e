"""Serve the Responses API (OpenAI) on a provider of Chat Completions."""

from llmstack.providers.translation.responses_on_chat.request import translate_request
from llmstack.providers.translation.responses_on_chat.response import translate_response
from llmstack.providers.translation.responses_on_chat.stream import ChatStreamToResponses

__all__ = ["ChatStreamToResponses", "translate_request", "translate_response"]
