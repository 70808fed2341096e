"""The model hub: reaching it, its files' metadata, fetching them, comparing them with models.ini."""
