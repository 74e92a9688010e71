"""``virtcpr history``: which domains were moved when, from what to what."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import completion
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import HistoryReport


def history(
    ctx: typer.Context,
    domain: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names or UUIDs; all domains if none is given.",
            show_default=False,
            autocompletion=completion.domains("all"),
        ),
    ] = None,
    lines: Annotated[
        int | None, typer.Option("-n", "--lines", metavar="N", min=1, help="Only the last N.", show_default=False)
    ] = None,
    output: OutputOption = Output.TABLE,
) -> HistoryReport:
    """Show what upgrade and auto did with which domain, the newest last.

    For each: when, the result, the mode, the QEMU before and after, and how long the guest was paused.
    """
    session: Session = ctx.obj
    session.output = output
    return session.backend.history(session.uri, tuple(domain or ()), lines)
