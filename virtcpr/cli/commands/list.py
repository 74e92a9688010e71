"""``virtcpr list``: which domains run an outdated QEMU, and which can be moved off it."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import completion
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import ListReport


def list_domains(
    ctx: typer.Context,
    domain: Annotated[
        list[str] | None,
        typer.Argument(
            help="Names, ids or UUIDs; all domains if none is given.", autocompletion=completion.domains("all")
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> ListReport:
    """Show which domains run an outdated QEMU.

    For each: the QEMU that it runs in, the one that is installed, whether its persistent XML is prepared, and the first
    mode, of transfer, live and reboot, that nothing stands against.  With -v the reasons are shown under each domain.
    """
    session: Session = ctx.obj
    session.output = output
    return session.backend.list_domains(session.uri, tuple(domain or ()))
