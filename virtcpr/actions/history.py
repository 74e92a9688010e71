"""``history``: what was moved."""

from __future__ import annotations

from virtcpr.actions.records import history
from virtcpr.errors import HostError
from virtcpr.model import HistoryReport


def report(domains: tuple[str, ...], last: int | None) -> HistoryReport:
    """What was moved: of these names or UUIDs, of all where it is empty; the ``last`` so many.

    Raises HostError where it can't be read.
    """
    try:
        entries = [entry for entry in history.entries() if not domains or {entry.name, entry.uuid} & set(domains)]
    except FileNotFoundError:
        entries = []
    except OSError as error:
        raise HostError(f"{history.PATH} can't be read: {error.strerror}", hint="run it with sudo") from error
    return HistoryReport(tuple(entries if last is None else entries[-last:]))
