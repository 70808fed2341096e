"""A llama.cpp server: its program, its command line, and the GGUF files it loads."""
