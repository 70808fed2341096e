"""The demo: the whole stack on tiny models."""
