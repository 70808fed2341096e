"""Starting, stopping and watching a project's stack."""
