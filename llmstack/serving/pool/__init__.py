"""The built-in pool: one llama.cpp server per loaded model, started and stopped on demand."""
