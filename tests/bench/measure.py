"""What every measurement needs: a guest's silence from outside, and a comparison with its bound."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from tests.lab.support.client import Witness
from tests.lab.support.guests import Shape

TURNS = 5
SETTLE_BEATS = 1500


@dataclass(frozen=True)
class Row:
    """One comparison: milliseconds (or MiB) of what is measured and of what it is measured against."""

    name: str
    measured: list[float]
    against: list[float]
    bound: float

    @property
    def ratio(self) -> float:
        return median(self.measured) / median(self.against)

    def __str__(self) -> str:
        figures = " ".join(f"{value:.0f}" for value in self.measured)
        others = " ".join(f"{value:.0f}" for value in self.against)
        verdict = "within" if self.ratio <= self.bound else "OVER"
        return (
            f"{self.name}\n    {figures}  median {median(self.measured):.1f}\n    {others}  median "
            f"{median(self.against):.1f}\n    ratio {self.ratio:.2f}, {verdict} {self.bound}"
        )


def pause(witness: Witness, shape: Shape, act: Callable[[], object]) -> float:
    """The guest's longest silence while something is done to it, milliseconds."""
    witness.beats(shape, SETTLE_BEATS, timeout=60)
    witness.mark()
    act()
    witness.beats(shape, 500, timeout=60)
    return float(witness.report(shape)["pause_ms"])
