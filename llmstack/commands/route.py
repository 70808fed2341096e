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
        str | None, typer.Argument(metavar="TEXT", help="What a user would write.", show_default=False)
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", "-f", metavar="FILE", help="The JSON body of a request; - for stdin."),
    ] = None,
    session: Annotated[
        str,
        typer.Option(
            "--session", metavar="NAME", help="The conversation, as the client's x-session-id names it."
        ),
    ] = "",
    explain: Annotated[bool, typer.Option("--explain", help="Show every rule that was tried.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Say which tier a request would go to, and why.

    Nothing is sent.

    The running router is asked: it knows what is loaded, and which tier a conversation has.

    With no stack running, every declared tier is taken as available.

    Example: llmstack route "[ultra] design a cache" --json
    """
    from llmstack.stack.route import body_of
    from llmstack.stack.route import route as route_request

    app: CliContext = ctx.obj
    console = app.console
    if (text is None) == (file is None):
        raise UsageError("expected either TEXT or --file", hint='for example: llmstack route "hello"')
    found = route_request(
        body_of(text) if text is not None else _read(file), app.find_project(), app.user, app.env, session
    )
    if as_json:
        names = ("tier", "reason", "conversation_tokens", "context_tokens")
        more = ("others", "considered", "running", "session_known") if explain else ()
        console.json({name: getattr(found, name) for name in (*names, *more)})
        return
    console.data(f"{found.tier}  {found.reason}")
    console.data(
        f"about {found.conversation_tokens} tokens of conversation, {found.context_tokens} of context"
    )
    if explain:
        from llmstack.console import escape

        console.table(
            ("rule", "tier", "why~"),
            [(rule.rule, rule.tier, escape(rule.detail)) for rule in found.considered],
        )
        console.data(f"in its place: {', '.join(found.others) or 'none'}")
    if session and not found.session_known:
        known = "the router does not know it" if found.running else "nothing runs here that could know it"
        console.warn(f"conversation `{session}`: {known}; taken as a new one")
    for name, why in found.assumed.items():
        console.warn(f"nothing runs here; {name} was taken as available, but {why}")


def _read(file: Path | None) -> bytes:
    import sys

    try:
        return sys.stdin.buffer.read() if file is None or str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise LlmstackError(f"cannot read {file}: {error.strerror or error}") from error
