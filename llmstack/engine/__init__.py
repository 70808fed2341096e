"""One model server's command line, launcher and files."""
