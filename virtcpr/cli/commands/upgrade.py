"""``virtcpr upgrade``: move running domains onto the installed QEMU."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import interaction, options, waves
from virtcpr.cli.moving import to_move
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
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.cli.waves import (
    BackOption,
    CanaryOption,
    ExcludeOption,
    PauseBetweenOption,
    StopAfterOption,
    WatchOption,
    WaveOption,
)
from virtcpr.errors import UsageError
from virtcpr.model import ExitCode, UpgradeReport


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
    exclude: ExcludeOption = None,
    canary: CanaryOption = None,
    wave: WaveOption = None,
    pause_between: PauseBetweenOption = 0.0,
    stop_after: StopAfterOption = None,
    watch: WatchOption = None,
    back: BackOption = None,
    yes: YesOption = False,
    output: OutputOption = Output.TABLE,
) -> UpgradeReport:
    """Move running domains onto the installed QEMU.  Their guests keep running, except for a pause of milliseconds.

    With --mode live RAM is copied while the guests run, so that they need not be prepared; they are afterwards.
    With --mode reboot each is ended and started again in place, with its state: a pause of a second or more.  With
    --fallback reboot only those are that can't be moved otherwise.  A domain that can't be moved, or already runs the
    installed QEMU, is left alone: the result says why.  With --canary or --wave they are moved one group after the
    other, and after a failure the rest is left alone.  With --watch they are looked at after their move, and one in
    trouble goes back.
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
        moves.request(session, domain, every, emulator),
        parallel=parallel,
        suspend=suspend,
        timeout_s=timeout,
        rollout=waves.rollout(canary, wave, pause_between, stop_after),
        probation=waves.probation(watch, back, (mode.mode, fallback.mode)),
        exclude=waves.exclude(exclude, every=every),
    )
    with session.backend.open_upgrade(request) as planned:
        moving = tuple(outlook for outlook in planned.outlooks if outlook.moves)
        if not yes and not to_move(session, planned, request.mode):
            return UpgradeReport((), ExitCode.DONE, notes=("nothing done",))
        report = interaction.watched(session, tuple(outlook.name for outlook in moving), planned.run, what="the swap")
    session.backend.refresh(session.uri, report.exit_code)
    return report
