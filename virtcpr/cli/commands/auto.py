"""``virtcpr auto``: what the configuration says about domains that run an outdated QEMU."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import interaction
from virtcpr.cli.output import json_report, render
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import AutoReport


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
    output: OutputOption = Output.TABLE,
) -> AutoReport:
    """Do what /etc/virtcpr/virtcpr.toml says about running domains that run an outdated QEMU.

    By default it only reports them.  virtcpr-auto.service runs it with --pending after an upgrade of QEMU; the results
    go to the journal, and to the recipients that the configuration names.
    """
    session: Session = ctx.obj
    session.output = output
    with session.backend.open_auto(session.uri, pending=pending, dry_run=dry_run) as automatic:
        if dry_run:
            return automatic.report
        report = interaction.watched(session, automatic.moving, automatic.run, what="the swap")
        automatic.tell(report, json_report.dump(report), render.plain(report))
    return report
