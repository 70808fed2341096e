"""Results as people read them: one function per result."""
