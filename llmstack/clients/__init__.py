"""The coding clients that `run` starts, wired to this stack."""
