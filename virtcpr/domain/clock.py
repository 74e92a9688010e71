"""The guest's clock on QEMU's command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from virtcpr.domain.argv import Option

FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


def later(option: Option, seconds: float) -> Option:
    """``-rtc`` for a QEMU that is started these seconds after the one that had the option.

    A ``base`` that is a date is the time when QEMU starts; what it tells libvirt when the guest sets its clock is by
    that (system/rtc.c, qemu_ref_timedate).  The virtual clock (``clock=vm``) is handed over, and goes on.
    """
    properties = option.properties()
    start = _date(str(properties.get("base", "")))
    if start is None or properties.get("clock") == "vm":
        return option
    return option.with_properties({"base": (start + timedelta(seconds=round(seconds))).strftime(FORMATS[0])})


def _date(text: str) -> datetime | None:
    for pattern in FORMATS:
        try:
            return datetime.strptime(text, pattern).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None
