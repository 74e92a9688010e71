"""``virtcpr upgrade``: move running domains onto the installed QEMU."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import interaction, options
from virtcpr.cli.options import (
    AllOption,
    EmulatorOption,
    FallbackChoice,
    FallbackOption,
    ForceOption,
    MaxBlackoutOption,
    MaxPauseOption,
    Moving,
    RehearseOption,
    RunningDomain,
    TimeoutOption,
    TryOption,
    UpgradeMode,
    UpgradeModeOption,
    YesOption,
)
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count, milliseconds
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.errors import UsageError
from virtcpr.model import Blackouts, ExitCode, Mode, Outlook, UpgradeReport

AWAY = "libvirt's daemon is away meanwhile."


def upgrade(
    ctx: typer.Context,
    domain: RunningDomain = None,
    every: AllOption = False,
    emulator: EmulatorOption = None,
    mode: UpgradeModeOption = UpgradeMode.AUTO,
    fallback: FallbackOption = FallbackChoice.NONE,
    suspend: Annotated[bool, typer.Option("--suspend-guest", help=f"With mode reboot: {options.SUSPEND}")] = False,
    parallel: Annotated[int | None, typer.Option(metavar="N", help="Make at most N new QEMUs at a time.")] = None,
    max_pause: MaxPauseOption = None,
    max_blackout: MaxBlackoutOption = None,
    timeout: TimeoutOption = None,
    rehearse: RehearseOption = True,
    force: ForceOption = False,
    trying: TryOption = False,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> UpgradeReport:
    """Move running domains onto the installed QEMU.  Their guests keep running, except for a pause of milliseconds.

    With --mode live RAM is copied while the guests run, so that they need not be prepared; they are afterwards.
    With --mode reboot each is ended and started again in place, with its state: a pause of a second or more.  With
    --fallback reboot only those are that can't be moved otherwise.  A domain that can't be moved, or already runs the
    installed QEMU, is left alone: the result says why.
    """
    session: Session = ctx.obj
    session.output = output
    hint = "try: virtcpr upgrade --help"
    if parallel is not None and parallel < 1:
        raise UsageError(f"--parallel must be at least 1, not {parallel}", hint=hint)
    if suspend and UpgradeMode.REBOOT.mode not in (mode.mode, fallback.mode):
        raise UsageError("--suspend-guest needs --mode reboot or --fallback reboot", hint=hint)
    if timeout is not None and (mode is not UpgradeMode.LIVE or not 0 < timeout < float("inf")):
        raise UsageError("--timeout needs --mode live, and more than 0 seconds", hint=hint)
    moves = Moving(mode, fallback, max_pause, max_blackout, rehearse, force, trying)
    request = replace(
        moves.request(session, domain, every, emulator), parallel=parallel, suspend=suspend, timeout_s=timeout
    )
    with session.backend.open_upgrade(request) as planned:
        moving = tuple(outlook for outlook in planned.outlooks if outlook.moves)
        if not yes and not _agreed(session, planned.outlooks, _question(moving, request.mode, planned.forecast)):
            return UpgradeReport((), ExitCode.DONE, notes=("nothing done",))
        report = interaction.watched(session, tuple(outlook.name for outlook in moving), planned.run, what="the swap")
    session.backend.refresh(session.uri, report.exit_code)
    return report


def _agreed(session: Session, outlooks: tuple[Outlook, ...], question: str | None) -> bool:
    return question is None or interaction.agreed(session, render.outlook_table(session, outlooks), question)


def _question(moving: tuple[Outlook, ...], asked: Mode | None, blackouts: Blackouts | None) -> str | None:
    """The question, None if nothing would be moved.  It says if guests are ended and started again."""
    if not moving:
        return None
    reboots = sum((outlook.mode or asked) is Mode.REBOOT for outlook in moving)
    domains = count(len(moving), "domain")
    if not reboots:
        return f"Move {domains} now? {_pauses(moving)}{_away(blackouts)}"
    price = "ended and started again in place, paused for a second or more."
    if reboots == len(moving):
        return f"Move {domains} by mode reboot now? Each is {price} {AWAY}"
    return f"Move {domains} now, {reboots} by mode reboot? Each of these is {price} {AWAY}"


def _pauses(moving: tuple[Outlook, ...]) -> str:
    known = [outlook.forecast_ms for outlook in moving if outlook.forecast_ms is not None]
    if not known:
        return ""
    new = f" (no forecast for {len(moving) - len(known)} of them)" if len(known) < len(moving) else ""
    return f"Each is paused for about {milliseconds(max(known))} at most{new}. "


def _away(blackouts: Blackouts | None) -> str:
    if blackouts is None:
        return AWAY
    if blackouts.times == 1:
        return f"libvirt's daemon is away for about {milliseconds(blackouts.longest_ms)}."
    return f"libvirt's daemon is away {blackouts.times} times, for about {milliseconds(blackouts.longest_ms)} at most."
