"""``virtcpr auto``: what the configuration says about domains that run an outdated QEMU."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import interaction
from virtcpr.cli.output import json_report, render
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import UsageError
from virtcpr.model import AutoReport, ExitCode


def auto(
    ctx: typer.Context,
    pending: Annotated[
        bool,
        typer.Option(
            "--pending", help="Only if a package manager noted an upgrade; waits until package managers are done."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done as things look now, and do nothing.")
    ] = False,
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Only write the file for Prometheus anew, if one is configured.")
    ] = False,
    changes: Annotated[
        bool, typer.Option("--changes", help="Tell the recipients only what they weren't told last time.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> AutoReport:
    """Do what /etc/virtcpr/virtcpr.toml says about running domains that run an outdated QEMU.

    By default it only reports them.  virtcpr-auto.service runs it with --pending after an upgrade of QEMU; the results
    go to the journal, and to the recipients that the configuration names.  virtcpr-daily.timer, if it is enabled, runs
    it with --changes every day.
    """
    session: Session = ctx.obj
    session.output = output
    if metrics:
        return _metrics(session, pending or dry_run)
    with session.backend.open_auto(session.uri, pending=pending, dry_run=dry_run) as automatic:
        if dry_run:
            return automatic.report
        report = interaction.watched(session, automatic.moving, automatic.run, what="the swap")
        automatic.tell(report, json_report.dump(report), render.plain(report), changes=changes)
    return report


def _metrics(session: Session, more: bool) -> AutoReport:
    if more:
        raise UsageError("--metrics moves nothing: leave out --pending and --dry-run", hint="try: virtcpr auto --help")
    why = session.backend.refresh(session.uri, None)
    note = f"no file was written for Prometheus: {why}" if why else "the file for Prometheus was written"
    return AutoReport((), ExitCode.DONE, notes=(note,))
