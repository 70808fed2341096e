"""Hosted and local model servers: where they are, what they take, how to ask them."""
