"""How long a guest's pause will be, by how long it was."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

LAST = 5  # older ones were of another QEMU, another host kernel, another guest


def forecast(pauses: Sequence[float]) -> float | None:
    """The median of the last pauses, in milliseconds; None where there were none."""
    return round(median(pauses[-LAST:]), 3) if pauses else None
