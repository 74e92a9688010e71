"""What a measurement yields: series of figures, compared with each other and with a bound.  Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal

Statistic = Literal["median", "p99"]
HOST = "host"  # the part of the bench that is measured on another machine than the others
Span = Mapping[str, float | str]  # of a trace: "lane", "name", "begin" and "end" (s of the host's clock)


def p99(values: Sequence[float]) -> float:
    """The 99th percentile, by the nearest rank: of fewer than a hundred values the greatest."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


@dataclass(frozen=True)
class Row:
    """One series, and what it is measured against: the ratio of both, or else the figure itself, has the bound.

    ``of``: the statistic of the series; what it is measured against is always taken by its median.  ``at_least``: the
    bound is the least that is wanted, not the most.
    """

    key: str
    name: str
    measured: Sequence[float]
    against: Sequence[float] = ()
    bound: float | None = None
    unit: str = "ms"
    of: Statistic = "median"
    at_least: bool = False

    @property
    def value(self) -> float:
        return p99(self.measured) if self.of == "p99" else median(self.measured)

    @property
    def figure(self) -> float:
        """What the bound is for."""
        return self.value / median(self.against) if self.against else self.value

    @property
    def within(self) -> bool:
        if self.bound is None:
            return True
        return self.figure >= self.bound if self.at_least else self.figure <= self.bound

    @property
    def verdict(self) -> str:
        if self.bound is None:
            return "no bound"
        return f"{'within' if self.within else 'OVER'} {'at least ' if self.at_least else ''}{self.bound:g}"

    def __str__(self) -> str:
        lines = [f"{self.name} ({self.unit})", _line(self.measured, self.of, self.value)]
        if self.against:
            lines.append(_line(self.against, "median", median(self.against)))
        what = f"ratio {self.figure:.2f}" if self.against else f"{self.figure:.2f} {self.unit}"
        return "\n    ".join([*lines, f"{what}, {self.verdict}"])


def _line(values: Sequence[float], of: str, value: float) -> str:
    shown = " ".join(f"{one:.3g}" if one < 100 else f"{one:.0f}" for one in values[:30])
    return f"{shown}{' …' if len(values) > 30 else ''}  {of} {value:.3g}"


@dataclass(frozen=True)
class Steps:
    """How long each step of a move took: the median over all guests, ms."""

    key: str
    name: str
    ms: Mapping[str, float]

    def __str__(self) -> str:
        return f"{self.name}\n    " + ", ".join(f"{step} {ms:.0f}" for step, ms in self.ms.items())


@dataclass(frozen=True)
class Trace:
    """The spans of one run of virtcpr."""

    key: str
    spans: Sequence[Span] = field(repr=False)

    def __str__(self) -> str:
        return f"trace {self.key}: {len(self.spans)} spans"


@dataclass(frozen=True)
class NotRun:
    what: str
    why: str

    def __str__(self) -> str:
        return f"NOT RUN: {self.what}: {self.why}"


Item = Row | Steps | Trace | NotRun
