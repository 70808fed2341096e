"""Prompt caches that are saved to disk when a model is unloaded, and restored afterwards."""
