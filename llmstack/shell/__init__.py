"""Terminals: the hook that wires one up on entering a project, and the subshell for one without it."""
