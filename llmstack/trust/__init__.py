"""Which projects may run programs, and which edits of their files require trust again."""
