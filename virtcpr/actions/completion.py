"""Names of domains, for a shell's completion: at once, and nothing is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from virtcpr.errors import HostError
from virtcpr.host.libvirt import connection

SECONDS = 2.0  # somebody waits for it at a keyboard


def names(uri: str | None, which: Literal["all", "running", "saved", "interrupted"]) -> list[str]:
    """Those of all domains, of running ones, of saved ones, of those that `recover` is about.

    Raises UsageError for a remote URI, HostError where they can't be told.
    """
    match which:
        case "saved":
            from virtcpr.actions.records import saves

            return sorted(record.saved.name for record in saves.readable())
        case "interrupted":
            return sorted(set(_interrupted()))
        case _:
            return connection.names(uri, running=which == "running", seconds=SECONDS)


def _interrupted() -> Iterator[str]:
    from virtcpr.actions.records import journal, quarantine, saves
    from virtcpr.plan.reboot_recovery import Purpose, Stage

    for uuid in journal.pending():
        with suppress(HostError):
            yield journal.load(uuid).entry.name
    yield from quarantine.names()
    for record in saves.readable():
        if (record.saved.stage, record.saved.purpose) != (Stage.SAVED, Purpose.SAVE):  # else it waits for `restore`
            yield record.saved.name
