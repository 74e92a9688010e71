"""Predict a guest's pause from its earlier pauses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import median

from virtcpr.model import Outlook

LAST = 5  # older pauses are from other versions of QEMU, the kernel and the guest


def forecast(pauses: Sequence[float]) -> float | None:
    """The median of the last pauses, in milliseconds; None if there were none."""
    return round(median(pauses[-LAST:]), 3) if pauses else None


def with_forecast(outlook: Outlook, pauses: Mapping[str, Sequence[float]]) -> Outlook:
    """The outlook with the expected pause; ``pauses`` are the domains' earlier ones by UUID, in milliseconds."""
    return replace(outlook, forecast_ms=forecast(pauses.get(outlook.uuid, ())))
