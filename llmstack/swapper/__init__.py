"""Which models are resident, and the right to use one."""
