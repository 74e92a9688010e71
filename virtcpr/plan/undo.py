"""What `undo` does with each domain of a batch, and which builds needn't be kept any longer.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from virtcpr.model import Finding, HistoryEntry, Result
from virtcpr.plan.findings.table import NOT_KEPT

DAY = 86400  # s


@dataclass(frozen=True)
class WayBack:
    """For a domain of the batch: the program to go back to, or why it can't; a domain without either stays."""

    entry: HistoryEntry
    program: str | None = None
    finding: Finding | None = None
    note: str = ""


def last_batch(entries: Sequence[HistoryEntry]) -> int | None:
    """The newest one that moved a guest, wasn't taken back, and doesn't take back another itself."""
    undone = {(entry.undoes, entry.uuid) for entry in entries if entry.result is Result.UPGRADED}
    batches = (
        entry.batch
        for entry in reversed(entries)
        if entry.result is Result.UPGRADED and entry.undoes is None and (entry.batch, entry.uuid) not in undone
    )
    return next((batch for batch in batches if batch is not None), None)


def ways_back(
    entries: Sequence[HistoryEntry], batch: int, programs: Mapping[str, str], running: Iterable[str]
) -> list[WayBack]:
    """For each domain that the batch moved, in its order.

    ``programs``: builds that are there, and the path of each; ``running``: UUIDs.
    """
    running = set(running)
    newest = {entry.uuid: entry for entry in entries if entry.result is Result.UPGRADED}
    moved = {
        entry.uuid: entry
        for entry in entries
        if entry.batch == batch and entry.undoes != batch and entry.result is Result.UPGRADED
    }
    return [_way_back(entry, newest[uuid], programs, uuid in running) for uuid, entry in moved.items()]


def _way_back(entry: HistoryEntry, newest: HistoryEntry, programs: Mapping[str, str], runs: bool) -> WayBack:
    if not runs:
        return WayBack(entry, note=f"{entry.name} doesn't run any more: nothing to undo")
    if newest.undoes is not None and newest.undoes == entry.batch:
        return WayBack(entry, note=f"{entry.name} was taken back already: nothing to undo")
    if newest is not entry:
        again = f" by batch {newest.batch}" if newest.batch is not None else ""
        return WayBack(entry, note=f"{entry.name} was moved again{again}: it is left where it is")
    program = programs.get(entry.source_build or "")
    if program is None:
        return WayBack(entry, finding=NOT_KEPT.finding(entry.name, {"version": entry.source or "it ran in before"}))
    return WayBack(entry, program)


def went_back(newest: HistoryEntry | None, build: str) -> bool:
    """Whether a domain was taken back from this build, and nobody has moved it since; ``newest``: its last move."""
    return newest is not None and newest.undoes is not None and newest.source_build == build


def surplus(builds: Sequence[tuple[str, float, bool]], most: int, days: int, now: float) -> set[str]:
    """The builds to remove.

    Each is (build, when it was kept, whether it is needed), times in seconds; the needed ones count, but stay.
    """
    newest_first = sorted(builds, key=lambda one: one[1], reverse=True)
    too_many = {build for build, _, _ in newest_first[most:]}
    too_old = {build for build, kept_at, _ in builds if now - kept_at > days * DAY}
    needed = {build for build, _, needed in builds if needed}
    return (too_many | too_old) - needed
