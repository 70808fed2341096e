"""How much memory there is, what each model needs of it, and which model to evict."""
