"""``history``: past upgrades."""

from __future__ import annotations

from virtcpr.actions.records import history
from virtcpr.errors import HostError
from virtcpr.model import HistoryReport


def report(domains: tuple[str, ...], last: int | None) -> HistoryReport:
    """The last ``last`` upgrades of these domains (names or UUIDs), of all domains if empty.

    Raises HostError if the history can't be read.
    """
    try:
        entries = [entry for entry in history.entries() if not domains or {entry.name, entry.uuid} & set(domains)]
    except FileNotFoundError:
        entries = []
    except OSError as error:
        raise HostError(f"{history.PATH} can't be read: {error.strerror}", hint="run it with sudo") from error
    return HistoryReport(tuple(entries if last is None else entries[-last:]))
