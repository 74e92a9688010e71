"""The options that divide the domains of an upgrade into waves, and say for how long they are watched."""

from __future__ import annotations

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Annotated

import typer

from virtcpr.errors import UsageError
from virtcpr.model import Mode, Probation, Rollout

HINT = "try: virtcpr upgrade --help"
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN",
        help="With --all: leave out these names (db*) or tags (tag:db); may be repeated.",
        show_default=False,
    ),
]
CanaryOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N|NAME",
        help="Move so many domains first, or those named (or tag:TAG); if one isn't moved, the rest is left alone.",
        show_default=False,
    ),
]
WaveOption = Annotated[
    int | None, typer.Option(metavar="N", help="Move at most N domains, then the next N.", show_default=False)
]
PauseBetweenOption = Annotated[float, typer.Option(metavar="SECONDS", help="Wait between two waves.")]
StopAfterOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="With waves: begin none after N failures (1).", show_default=False),
]
WatchOption = Annotated[
    str | None,
    typer.Option(
        "--watch",
        metavar="TIME",
        help="Look at the guests for that long after their move (300, 5m, 1h); one in trouble goes back.",
        show_default=False,
    ),
]


class Back(StrEnum):
    """Who goes back."""

    GUEST = "guest"
    WAVE = "wave"


BackOption = Annotated[
    Back | None,
    typer.Option("--go-back", help="With --watch: only the guest in trouble (the default), or its whole wave."),
]
UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}


def probation(watch: str | None, back: Back | None, modes: Collection[Mode | None]) -> Probation | None:
    """None: the guests aren't watched.

    :raise UsageError: for a time that is none, for ``--go-back`` alone, and for other ``modes`` than transfer.
    """
    if watch is None:
        if back is not None:
            raise UsageError("--go-back needs --watch", hint=HINT)
        return None
    if not {Mode.LIVE, Mode.REBOOT}.isdisjoint(modes):
        raise UsageError("--watch is for mode transfer: no guest was ever taken back in another", hint=HINT)
    found = re.fullmatch(r"([0-9]{1,6})([smh]?)", watch)
    if found is None or not int(found[1]):
        raise UsageError(f"--watch must be a time as 300, 5m or 1h, not {watch}", hint=HINT)
    return Probation(float(int(found[1]) * UNITS[found[2]]), whole_wave=back is Back.WAVE)


def rollout(canary: list[str] | None, wave: int | None, pause_s: float, stop_after: int | None) -> Rollout | None:
    """None: all together.

    :raise UsageError: for numbers that mean nothing, and for options that need waves.
    """
    numbers = [int(word) for word in canary or () if word.isascii() and word.isdigit()]
    names = tuple(word for word in canary or () if not (word.isascii() and word.isdigit()))
    for option, value in (
        ("--canary", sum(numbers) if numbers else None),
        ("--wave", wave),
        ("--stop-after", stop_after),
    ):
        if value is not None and value < 1:
            raise UsageError(f"{option} must be at least 1, not {value}", hint=HINT)
    if not 0 <= pause_s < float("inf"):
        raise UsageError(f"--pause-between must be 0 or more, not {pause_s:g}", hint=HINT)
    if not canary and wave is None:
        if pause_s or stop_after is not None:
            raise UsageError("--pause-between and --stop-after need waves: --canary or --wave", hint=HINT)
        return None
    return Rollout(sum(numbers), names, wave, pause_s, stop_after or 1)


def exclude(patterns: list[str] | None, *, every: bool) -> tuple[str, ...]:
    """:raise UsageError: without ``--all``: then the domains are named."""
    if patterns and not every:
        raise UsageError("--exclude needs --all", hint=HINT)
    return tuple(patterns or ())
