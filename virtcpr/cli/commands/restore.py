"""``virtcpr restore``: bring saved domains back, or discard their saved state."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import interaction, options
from virtcpr.cli.options import EmulatorOption, SavedDomain, YesOption
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import UsageError
from virtcpr.model import ExitCode, Keeping, KeptDomain, RestoreReport


def restore(
    ctx: typer.Context,
    domain: SavedDomain = None,
    every: Annotated[bool, typer.Option("--all", help="Every saved domain.")] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Give up the saved state, so that the domain can be started afresh.")
    ] = False,
    unchanged: Annotated[
        bool,
        typer.Option("--disks-unchanged", help="Nothing has written to disks of which virtcpr can't tell that itself."),
    ] = False,
    emulator: EmulatorOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> RestoreReport:
    """Bring back domains that virtcpr save wrote to disk.  Their guests continue where they were.

    A domain that can't be restored stays saved: the result says why, and restore may be run again.  --discard asks
    first, then deletes the guest's state: its disks stay as they are, and its next start is as after a power failure.
    """
    session: Session = ctx.obj
    session.output = output
    for option, given in (("--emulator", emulator is not None), ("--disks-unchanged", unchanged)):
        if discard and given:
            raise UsageError(f"--discard starts no domain: leave out {option}", hint="try: virtcpr restore --help")
    request = replace(options.request(session, domain, every, emulator), disks_unchanged=unchanged)
    with session.backend.open_restore(request, discard=discard) as planned:
        if discard and not yes and not _agreed(session, planned.outlooks):
            return RestoreReport((), ExitCode.DONE, notes=("nothing done",))
        chosen = (outlook for outlook in planned.outlooks if outlook.result in (Keeping.RESTORED, Keeping.DISCARDED))
        names = tuple(outlook.name or outlook.uuid for outlook in chosen)
        report = interaction.watched(session, names, planned.run, what="the restore")
    session.backend.refresh(session.uri, report.exit_code)
    return report


def _agreed(session: Session, outlooks: tuple[KeptDomain, ...]) -> bool:
    """Ask only if a state would be discarded."""
    lost = sum(outlook.result is Keeping.DISCARDED for outlook in outlooks)
    if not lost:
        return True
    question = (
        f"Give up the saved state of {count(lost, 'domain')} now? The guest's state is lost, its disks stay as they "
        "are, and its next start is as after a power failure."
    )
    return interaction.agreed(session, render.kept_table(session, outlooks), question)
