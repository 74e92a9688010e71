"""Domain names for shell completion.  Fast, reads only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

from virtcpr.errors import HostError
from virtcpr.host.libvirt import connection

SECONDS = 2.0  # the user is waiting at the keyboard


def names(uri: str | None, which: Literal["all", "running", "saved", "interrupted"]) -> list[str]:
    """Names of all domains, of running or saved domains, or of domains that `recover` would settle.

    Raises UsageError for a remote URI, HostError if the names can't be read.
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
    from virtcpr.plan.reboot.recovery import Purpose, Stage

    for uuid in journal.pending():
        with suppress(HostError):
            yield journal.load(uuid).entry.name
    yield from quarantine.held().values()
    for record in saves.readable():
        if (record.saved.stage, record.saved.purpose) != (Stage.SAVED, Purpose.SAVE):  # else `restore` handles it
            yield record.saved.name
