"""Downloading the GGUF files that models.ini names."""
