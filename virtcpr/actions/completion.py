"""Domain names for shell completion.  Fast, reads only."""

from __future__ import annotations

from typing import Literal

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
            from virtcpr.actions.records import pending

            return sorted(set(filter(None, pending.domains(waiting=False).values())))
        case _:
            return connection.names(uri, running=which == "running", seconds=SECONDS)
