"""Resumable, verified downloads of large files: GGUF models and the llama-swap release."""
