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
        typer.Argument(metavar="PROMPT", help="What to ask; standard input without, or where it is -."),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", metavar="MODEL", help="A tier, or <provider>/<id>.")
    ] = "auto",
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, metavar="TOKENS", help="Of the answer.")] = 4096,
    temperature: Annotated[
        float | None, typer.Option(min=0, metavar="NUMBER", help="The model's own without.")
    ] = None,
    effort: Annotated[
        str | None, typer.Option(metavar="LEVEL", help="How hard to think: low, medium, high.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send one prompt to a tier or a provider's model.

    The answer is shown as it comes. What is piped in follows the prompt.

    Example: llmstack ask -m ollama/qwen3 "why is the sky blue?"
    """
    from llmstack.stack.ask import model_for

    app: CliContext = ctx.obj
    words = _words(prompt)
    asked = model_for(model, app.find_project(), app.env, app.user)
    pieces = asked.stream(
        words, system=system, max_tokens=max_tokens, temperature=temperature, reasoning_effort=effort
    )
    console = app.console
    for piece in pieces:
        if not as_json:
            console.piece(piece)
    result = pieces.result
    if as_json:
        console.json(result)
        return
    console.piece("\n")
    if result is not None and result.stop_reason == "length":
        console.warn(f"the answer was cut at {max_tokens} tokens", "ask for more with --max-tokens")


def _words(prompt: str | None) -> str:
    """Return the prompt and what is piped in."""
    import sys

    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    given = [text for text in ("" if prompt == "-" else prompt, piped.rstrip("\n")) if text]
    if not given:
        raise UsageError("expected a prompt", hint='for example: llmstack ask "hello"')
    return "\n\n".join(given)
