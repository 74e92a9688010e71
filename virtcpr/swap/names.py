"""Names of domains, for a shell's completion: at once, and nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from virtcpr.errors import HostError
from virtcpr.host import libvirt

SECONDS = 2.0  # somebody waits for it at a keyboard


def names(uri: str | None, which: Literal["all", "running", "saved", "interrupted"]) -> list[str]:
    """Those of all domains, of running ones, of saved ones, of those that `recover` is about.

    Raises UsageError for a remote URI, HostError where they can't be told.
    """
    match which:
        case "saved":
            from virtcpr.swap.reboot import record

            return sorted(one.saved.name for one in record.readable())
        case "interrupted":
            return sorted(set(_interrupted()))
        case _:
            return libvirt.names(uri, running=which == "running", seconds=SECONDS)


def _interrupted() -> Iterator[str]:
    from virtcpr.plan.saved import Purpose, Stage
    from virtcpr.swap import held, journal
    from virtcpr.swap.reboot import record

    for uuid in journal.pending():
        with suppress(HostError):
            yield journal.load(uuid).entry.name
    yield from held.names()
    for one in record.readable():
        if (one.saved.stage, one.saved.purpose) != (Stage.SAVED, Purpose.SAVE):  # else it waits for `restore`
            yield one.saved.name
