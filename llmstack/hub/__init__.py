"""The model hub: access, file metadata, downloads, and the comparison with models.ini."""
