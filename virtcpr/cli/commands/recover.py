"""``virtcpr recover``: settle swaps, saves and restores that were interrupted."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.cli import options
from virtcpr.cli.options import InterruptedDomain
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.model import RecoverReport


def recover(
    ctx: typer.Context,
    domain: InterruptedDomain = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every domain with an interrupted swap, save or restore.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done as things look now, and do nothing.")
    ] = False,
    from_hook: Annotated[bool, typer.Option("--from-hook", hidden=True)] = False,
    output: OutputOption = Output.TABLE,
) -> RecoverReport:
    """Settle swaps that were interrupted: each guest gets one owner, and libvirt's record names it.

    Interrupted saves and restores are settled, too: the guest runs, or its state waits for virtcpr restore.

    It examines what is left of both QEMU processes; docs/recovery.md has the table of its decisions.  If libvirt's
    daemon runs, it is stopped meanwhile, and started again.  While the daemon runs, QEMU answers nobody else: --dry-run
    then shows such a process as silent.
    """
    session: Session = ctx.obj
    session.output = output
    names = options.request(session, domain, every).domains
    report = session.backend.recover(session.uri, names, dry_run=dry_run, start_daemon=not from_hook)
    if report.domains and not dry_run and not from_hook:  # in its hook libvirt's daemon doesn't answer yet
        session.backend.refresh(session.uri, report.exit_code)
    return report
