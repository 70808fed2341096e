"""One local endpoint in front of every model a developer can reach."""
