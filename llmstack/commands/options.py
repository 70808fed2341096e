"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

NextOption = Annotated[
    bool, typer.Option("--next", help="Run queued upgrades this time, without pinning channel `next`.")
]
DetachOption = Annotated[bool, typer.Option("--detach", "-d", help="Return as soon as the router answers.")]
HostOption = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Listen here instead of `host` in models.ini.")
]
PortOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=65535, metavar="PORT", help="Listen here instead of `router_port` in models.ini."
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
