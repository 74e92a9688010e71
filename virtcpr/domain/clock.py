"""The guest's clock on QEMU's command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from virtcpr.domain.argv import Option

FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d")


def later(option: Option, seconds: float) -> Option:
    """``-rtc`` for a QEMU that starts these seconds after the QEMU that had the option.

    A date in ``base`` is the time when QEMU starts.  QEMU reports the guest's clock changes to libvirt relative to it
    (system/rtc.c, qemu_ref_timedate).  The virtual clock (``clock=vm``) is handed over, and goes on.
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
