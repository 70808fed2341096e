"""Fetching large files so that nothing is lost and nothing wrong is kept: GGUFs, the llama-swap release."""
