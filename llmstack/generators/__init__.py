"""Configuration to text, purely."""
