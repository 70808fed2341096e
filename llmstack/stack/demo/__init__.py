"""The demo: the whole stack with tiny models."""
