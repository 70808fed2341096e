"""Routing decisions: pure functions of a request, the configuration and the state of the tiers."""
