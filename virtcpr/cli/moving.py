"""The question before running domains are moved: for how long each is paused, and libvirt's daemon away."""

from __future__ import annotations

from virtcpr.cli import interaction
from virtcpr.cli.backend import Planned
from virtcpr.cli.output import render
from virtcpr.cli.output.text import count, milliseconds
from virtcpr.cli.session import Session
from virtcpr.model import Blackouts, Mode, Outlook

AWAY = "libvirt's daemon is away meanwhile."


def to_move(session: Session, planned: Planned, asked: Mode | None) -> bool:
    """Show the moves and ask; without any there is no question.  ``asked``: the mode that was asked for.

    :raise UsageError: if there is no terminal to ask on.
    """
    moving = tuple(outlook for outlook in planned.outlooks if outlook.moves)
    question = _question(moving, asked, planned.forecast)
    return question is None or interaction.agreed(session, render.outlook_table(session, planned.outlooks), question)


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
        return f"Move {domains} by mode reboot now? Each is {price} {_pauses(moving)}{AWAY}"
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
