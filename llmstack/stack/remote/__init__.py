"""Use a router that another project or machine runs."""
