"""``history``: past upgrades."""

from __future__ import annotations

import os

from virtcpr.actions.records import history
from virtcpr.errors import HostError
from virtcpr.host.system.paths import SESSION, refuse_others
from virtcpr.model import HistoryReport


def report(uri: str | None, domains: tuple[str, ...], last: int | None) -> HistoryReport:
    """The last ``last`` upgrades of these domains (names or UUIDs), of all domains if empty.

    Of the system's domains for root, of their own for other users.  Raises HostError if it can't be read.
    """
    refuse_others(uri)
    try:
        entries = [entry for entry in history.entries() if not domains or {entry.name, entry.uuid} & set(domains)]
    except FileNotFoundError:
        entries = []
    except OSError as error:
        raise HostError(f"{history.PATH} can't be read: {error.strerror}", hint="run it with sudo") from error
    own = None if os.geteuid() == 0 else SESSION
    return HistoryReport(tuple(entries if last is None else entries[-last:]), uri=own)
