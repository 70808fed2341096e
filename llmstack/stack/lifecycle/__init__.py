"""Start, stop, reload and inspect a project's stack."""
