"""`llmstack ask`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption
from llmstack.errors import UsageError

if TYPE_CHECKING:
    from llmstack.context import CliContext


def ask(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="The prompt; if missing or -, read from stdin."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A tier, an alias or <provider>/<id>.")
    ] = "auto",
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.")
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(min=1, metavar="TOKENS", help="Maximum length of the answer.")
    ] = 4096,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, metavar="NUMBER", help="Sampling temperature; default: the model's own."),
    ] = None,
    effort: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="Reasoning effort: low, medium or high.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one prompt to a tier or a provider's model.

    Prints the answer as it is generated. Text from a pipe is appended to the prompt.

    Example: llmstack ask -m ollama/qwen3 "why is the sky blue?"
    """
    import contextlib

    from llmstack.stack.ask import open_model

    cli: CliContext = ctx.obj
    text = _read_prompt(prompt)
    chat_model = open_model(model, cli.find_trusted(), cli.env, cli.user)
    chunks = chat_model.stream(
        text, system=system, max_tokens=max_tokens, temperature=temperature, reasoning_effort=effort
    )
    console = cli.console
    with contextlib.closing(chunks):  # else an answer that cannot be written would go on in its thread
        for chunk in chunks:
            if not as_json:
                console.write(chunk)
    result = chunks.result
    if as_json:
        console.json(result)
        return
    console.write("\n")
    if result is not None and result.stop_reason == "length":
        console.warn(f"the answer was cut off at {max_tokens} tokens", "raise the limit with --max-tokens")


def _read_prompt(prompt: str | None) -> str:
    """Return the prompt, followed by the text from a pipe.

    Raises:
        UsageError: both are empty.
    """
    import sys

    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    parts = [text for text in ("" if prompt == "-" else prompt, piped.rstrip("\n")) if text]
    if not parts:
        raise UsageError("expected a prompt", hint='for example: llmstack ask "hello"')
    return "\n\n".join(parts)
