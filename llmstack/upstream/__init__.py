"""Asking servers over HTTP: model servers, llama-swap, LiteLLM, providers."""
