"""The options that divide the domains of an upgrade into waves."""

from __future__ import annotations

from typing import Annotated

import typer

from virtcpr.errors import UsageError
from virtcpr.model import Rollout

HINT = "try: virtcpr upgrade --help"
ExcludeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATTERN", help="With --all: leave out these names (db*); may be repeated.", show_default=False
    ),
]
CanaryOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="N|NAME",
        help="Move so many domains first, or those named; if one isn't moved, the rest is left alone.",
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
