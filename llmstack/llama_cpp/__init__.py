"""One llama.cpp server: which program it is, its command line, and the GGUF files it reads."""
