"""The operations behind the commands: they return values, raise errors and print nothing."""
