"""``virtcpr plan``: what ``upgrade`` would do now."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from virtcpr.cli import waves
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
    TryOption,
    UpgradeMode,
    UpgradeModeOption,
)
from virtcpr.cli.session import Output, OutputOption, Session
from virtcpr.cli.waves import ExcludeOption
from virtcpr.model import ExitCode, Outlook, PlanReport, Result


def plan(
    ctx: typer.Context,
    domain: RunningDomain = None,
    every: AllOption = False,
    emulator: EmulatorOption = None,
    mode: UpgradeModeOption = UpgradeMode.AUTO,
    fallback: FallbackOption = FallbackChoice.NONE,
    max_pause: MaxPauseOption = None,
    max_blackout: MaxBlackoutOption = None,
    rehearse: RehearseOption = True,
    force: ForceOption = False,
    trying: TryOption = False,
    exclude: ExcludeOption = None,
    detailed: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode", help="Exit with 10 if a domain would be moved, else with 4 if a domain is blocked."
        ),
    ] = False,
    output: OutputOption = Output.TABLE,
) -> PlanReport:
    """Show what upgrade would do now: which domains it would move, how, and what stands in the way.

    Nothing is touched.  The forecasts are medians: of the domain's pauses in its last upgrades, and of how long
    libvirt's daemon was away.
    """
    session: Session = ctx.obj
    session.output = output
    moving = Moving(mode, fallback, max_pause, max_blackout, rehearse, force, trying)
    request = moving.request(session, domain, every, emulator)
    report = session.backend.plan(replace(request, exclude=waves.exclude(exclude, every=every)))
    return replace(report, exit_code=_detailed(report.domains)) if detailed else report


def _detailed(domains: tuple[Outlook, ...]) -> ExitCode:
    if any(domain.moves for domain in domains):
        return ExitCode.PENDING
    blocked = any(domain.verdict is Result.BLOCKED for domain in domains)
    return ExitCode.BLOCKED if blocked else ExitCode.DONE
