"""``virtcpr undo``: move the domains of a batch back to the QEMU that they came from."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import interaction
from virtcpr.cli.moving import to_move
from virtcpr.cli.options import RehearseOption, YesOption
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import ExitCode, PlanReport, Request, UpgradeReport


def undo(
    ctx: typer.Context,
    batch: Annotated[
        int | None,
        typer.Argument(
            min=1, help="Its number in `virtcpr history`; the last one if none is given.", show_default=False
        ),
    ] = None,
    rehearse: RehearseOption = True,
    yes: YesOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, as `virtcpr plan` does, and do nothing.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> UpgradeReport | PlanReport:
    """Move the domains of a batch back to the build of QEMU that they ran in before it.

    A batch is what one `upgrade` or `auto` moved.  They go back by mode transfer, to builds that are kept for this
    (`virtcpr builds`).  A twin tries the way back first: not every older QEMU can take over what a newer one runs.
    `auto` leaves these domains alone until another QEMU is installed.
    """
    session: Session = ctx.obj
    session.output = output
    request = Request(uri=session.uri, rehearse=rehearse)
    with session.backend.open_undo(request, batch) as planned:
        if dry_run:
            return PlanReport(planned.outlooks, blackouts=planned.forecast, notes=planned.notes)
        moving = tuple(outlook for outlook in planned.outlooks if outlook.moves)
        if not yes and not to_move(session, planned, request.mode):
            return UpgradeReport((), ExitCode.DONE, notes=("nothing done",), undo=True)
        report = interaction.watched(session, tuple(one.name for one in moving), planned.run, what="the swap")
    session.backend.refresh(session.uri, report.exit_code)
    return report
