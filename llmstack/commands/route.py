"""`llmstack route`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llmstack.commands.options import JsonOption
from llmstack.errors import LlmstackError, UsageError

if TYPE_CHECKING:
    from llmstack.context import CliContext


def route(
    ctx: typer.Context,
    text: Annotated[
        str | None, typer.Argument(metavar="TEXT", help="The prompt of a user.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", metavar="FILE", help="The JSON body of a request; - reads it from stdin."
        ),
    ] = None,
    session: Annotated[
        str,
        typer.Option(
            "--session", metavar="NAME", help="The conversation, as in the client's x-session-id header."
        ),
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show every rule that was considered.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show which tier a request would go to, and why.

    Sends nothing to a model. Asks the running router, which knows what is loaded and which tier a
    conversation uses. If the stack is not running, assumes that every declared tier is available.

    Example: llmstack route "[ultra] design a cache" --json
    """
    from llmstack.stack.route import chat_body
    from llmstack.stack.route import route as route_request

    cli: CliContext = ctx.obj
    console = cli.console
    if (text is None) == (file is None):
        raise UsageError("expected either TEXT or --file", hint='for example: llmstack route "hello"')
    result = route_request(
        chat_body(text) if text is not None else _read_body(file),
        cli.find_trusted(),
        cli.user,
        cli.env,
        session,
    )
    if as_json:
        names = ("tier", "reason", "conversation_tokens", "context_tokens")
        details = ("others", "considered", "running", "session_known") if explain else ()
        console.json({name: getattr(result, name) for name in (*names, *details)})
        return
    console.print(f"{result.tier}  {result.reason}")
    console.print(
        f"about {result.conversation_tokens} tokens of conversation, {result.context_tokens} of context"
    )
    if explain:
        from llmstack.console import escape

        console.table(
            ("rule", "tier", "why~"),
            [(escape(rule.rule), escape(rule.tier), escape(rule.detail)) for rule in result.considered],
        )
        console.print(f"alternatives: {', '.join(result.others) or 'none'}")
    if session and not result.session_known:
        reason = "the router does not know it" if result.running else "the stack is not running"
        console.warn(f"conversation `{session}` is treated as a new one: {reason}")
    for name, problem in result.assumed.items():
        console.warn(f"the stack is not running; {name} is assumed to be available, but {problem}")


def _read_body(file: Path | None) -> bytes:
    import sys

    try:
        return sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise LlmstackError(f"cannot read {file}: {error.strerror or error}") from error
