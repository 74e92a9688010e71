"""``virtcpr upgrade``: move running domains onto the installed QEMU."""

from __future__ import annotations

import sys
from dataclasses import replace
from enum import StrEnum
from typing import Annotated

import typer

from virtcpr.cli import options, render
from virtcpr.cli.backend import Upgrade
from virtcpr.cli.options import AllOption, DomainArgument, EmulatorOption, RehearseOption, YesOption
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.cli.text import count
from virtcpr.errors import Unsettled, UsageError, VirtcprError
from virtcpr.model import ExitCode, Mode, Outlook, UpgradeReport


class UpgradeMode(StrEnum):
    """``--mode``: the modes of ``virtcpr.model.AVAILABLE``."""

    AUTO = "auto"
    TRANSFER = "transfer"


def upgrade(
    ctx: typer.Context,
    domain: DomainArgument = None,
    every: AllOption = False,
    emulator: EmulatorOption = None,
    mode: Annotated[
        UpgradeMode, typer.Option(help="How to move them; auto takes the best that can be.")
    ] = UpgradeMode.AUTO,
    parallel: Annotated[int | None, typer.Option(metavar="N", help="Swap at most N domains at a time.")] = None,
    rehearse: RehearseOption = True,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> UpgradeReport:
    """Move running domains onto the installed QEMU.  Their guests run on, but for a pause of milliseconds.

    A domain that runs it already is left alone, and so is one that can't be moved: the result says why.
    """
    session: Session = ctx.obj
    session.command, session.output = "upgrade", output
    if parallel is not None and parallel < 1:
        raise UsageError(f"--parallel must be at least 1, not {parallel}", hint="try: virtcpr upgrade --help")
    wanted = None if mode is UpgradeMode.AUTO else Mode(mode.value)
    asked = options.request(session, domain, every, emulator)
    request = replace(asked, parallel=parallel, mode=wanted, rehearse=rehearse)
    with session.backend.open_upgrade(request) as planned:
        if not yes and not _agreed(session, planned.outlooks):
            return UpgradeReport((), ExitCode.DONE, notes=("nothing done",))
        return _run(session, planned)


def _agreed(session: Session, outlooks: tuple[Outlook, ...]) -> bool:
    """Show what is about to be done and ask.  Where nothing would be moved there is nothing to ask.

    :raise UsageError: where there is nobody to ask.
    """
    moving = sum(outlook.moves for outlook in outlooks)
    if not moving:
        return True
    if not session.can_ask():
        raise UsageError("there is no terminal to ask on", hint="--yes goes ahead without asking")
    question = f"Move {count(moving, 'domain')} now? [y/N] "
    sys.stderr.write(f"{render.outlook_table(session, outlooks)}\n{question}")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _run(session: Session, planned: Upgrade) -> UpgradeReport:
    """Run the upgrade under the display.

    :raise Unsettled: where it ended by a defect, so that nothing is known about the guests.
    """
    from virtcpr.cli.live import watching

    names = tuple(outlook.name for outlook in planned.outlooks if outlook.moves)
    with watching(session, names) as watch:
        try:
            return planned.run(watch)
        except VirtcprError:
            raise
        except Exception as error:
            raise Unsettled(
                f"internal error during the swap: {type(error).__name__}: {error}",
                hint="look at each guest before anything else; /run/virtcpr/journal says how far it got",
            ) from error
