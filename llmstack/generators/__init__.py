"""Pure functions that generate configuration files of other programs from the stack's configuration."""
