"""``virtcpr save``: write running domains' states to disk and end them, before the host is rebooted."""

from __future__ import annotations

from dataclasses import replace

import typer

from virtcpr.cli import interaction, options
from virtcpr.cli.options import AllOption, RunningDomain, SuspendOption, YesOption
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import ExitCode, Keeping, KeptDomain, SaveReport


def save(
    ctx: typer.Context,
    domain: RunningDomain = None,
    every: AllOption = False,
    suspend: SuspendOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> SaveReport:
    """Save running domains around a reboot of the host: their states are written to disk, and they are ended.

    They don't run, and can't be started, until virtcpr restore brings them back.  A domain that can't be saved is left
    alone: the result says why.
    """
    session: Session = ctx.obj
    session.output = output
    request = replace(options.request(session, domain, every), suspend=suspend)
    with session.backend.open_save(request) as planned:
        names = tuple(outlook.name for outlook in planned.outlooks if outlook.result is Keeping.SAVED)
        if not yes and not _agreed(session, planned.outlooks, len(names)):
            return SaveReport((), ExitCode.DONE, notes=("nothing done",))
        report = interaction.watched(session, names, planned.run, what="the save")
    session.backend.refresh(session.uri, report.exit_code)
    return report


def _agreed(session: Session, outlooks: tuple[KeptDomain, ...], saved: int) -> bool:
    """Ask only if a domain would be saved."""
    if not saved:
        return True
    question = f"Save {count(saved, 'domain')} now? Each is ended, and waits on disk until 'virtcpr restore' is run."
    return interaction.agreed(session, render.kept_table(session, outlooks), question)
