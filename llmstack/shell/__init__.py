"""Shell integration: the hook that activates a terminal inside a project, and the subshell without it."""
