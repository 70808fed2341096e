"""Child processes: identity, starting, stopping, health."""
