"""Entry point of `python -m llmstack`."""

from llmstack.cli import main

if __name__ == "__main__":
    main()
