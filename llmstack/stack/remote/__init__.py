"""Using a router that runs elsewhere."""
