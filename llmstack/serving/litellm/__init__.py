"""The LiteLLM proxy, which serves the hosted tiers."""
