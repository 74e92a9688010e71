"""Where the marks of a plot are: durations over time, on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from virtcpr.cli.output.text import local_time, milliseconds

# Of the drawing, in units of its view box; its margins have the labels.
WIDTH, HEIGHT = 360.0, 170.0
LEFT, RIGHT, TOP, BOTTOM = 48.0, 12.0, 10.0, 24.0
LEAST = 1.0  # ms; shorter ones are drawn there


@dataclass(frozen=True)
class Mark:
    """A duration in milliseconds, at a time (ISO 8601); ``kind`` is drawn, ``name`` is told."""

    time: str
    ms: float
    kind: str
    name: str


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    kind: str
    text: str


@dataclass(frozen=True)
class Plot:
    """``rows`` are lines with their labels, ``dates`` the labels of the first and the last mark."""

    points: tuple[Point, ...]
    rows: tuple[tuple[float, str], ...]
    dates: tuple[str, str]
    kinds: tuple[str, ...]


def scatter(marks: Sequence[Mark]) -> Plot | None:
    """``marks`` may be in any order; None if there are none."""
    if not marks:
        return None
    times = [datetime.fromisoformat(mark.time).timestamp() for mark in marks]
    first, last = min(times), max(times)
    powers = [math.log10(max(mark.ms, LEAST)) for mark in marks]
    low = math.floor(min(powers))
    high = max(math.ceil(max(powers)), low + 1)

    def across(time: float) -> float:
        part = (time - first) / (last - first) if last > first else 0.5
        return round(LEFT + part * (WIDTH - LEFT - RIGHT), 1)

    def up(power: float) -> float:
        part = (power - low) / (high - low)
        return round(HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM), 1)

    points = (
        Point(across(time), up(power), mark.kind, f"{mark.name}: {milliseconds(mark.ms)}, {local_time(mark.time)}")
        for mark, time, power in zip(marks, times, powers, strict=True)
    )
    days = [local_time(mark.time).partition(" ")[0] for mark in (marks[times.index(first)], marks[times.index(last)])]
    return Plot(
        tuple(points),
        tuple((up(power), milliseconds(10.0**power)) for power in range(low, high + 1)),
        (days[0], days[1]),
        tuple(sorted({mark.kind for mark in marks})),
    )
