"""llama-swap as the program that runs the model servers."""
