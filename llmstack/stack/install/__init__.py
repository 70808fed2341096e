"""Setting up a project: its files, its models, the tools it uses."""
