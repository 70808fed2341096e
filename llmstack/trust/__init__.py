"""Which projects may run something, and what makes their files ask again."""
