"""``undo``: move the domains of a batch back to the QEMU that they came from, as far as that is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from virtcpr.actions.records import history
from virtcpr.actions.records.batch import undoing
from virtcpr.actions.rollout.waves import Upgrade
from virtcpr.actions.upgrade import open_upgrade
from virtcpr.errors import HostError, UsageError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.qemu import kept
from virtcpr.model import (
    Blackouts,
    DomainReport,
    ExitCode,
    HistoryEntry,
    Outlook,
    Request,
    Result,
    Side,
    UpgradeReport,
    Watch,
)
from virtcpr.plan.outcome import exit_code
from virtcpr.plan.undo import WayBack, last_batch, ways_back


@contextmanager
def open_undo(request: Request, batch: int | None) -> Iterator[Undo]:
    """Look at the domains of a batch, None: the last one, and plan their way back; nothing is touched.

    ``request`` says how; its domains are those of the batch.  Raises UsageError for a batch that isn't in the history,
    and what ``open_upgrade`` raises.
    """
    entries = _entries()
    number = last_batch(entries) if batch is None else batch
    if number is None:
        yield Undo(None, [], 0)
        return
    if not any(entry.batch == number for entry in entries):
        raise UsageError(f"the history has no batch {number}", hint="virtcpr history")
    with Connection(request.uri) as connection:
        running = {domain.uuid for domain in connection.domains(running=True)}
    ways = ways_back(entries, number, {one.build: one.program for one in kept.builds()}, running)
    programs = {way.entry.uuid: way.program for way in ways if way.program is not None}
    if not programs:
        yield Undo(None, ways, number)
        return
    with open_upgrade(replace(request, domains=tuple(programs), every=False, emulators=programs)) as upgrade:
        yield Undo(upgrade, ways, number)


def _entries() -> list[HistoryEntry]:
    try:
        return list(history.entries())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(f"{history.PATH} can't be read: {error.strerror}", hint="run it with sudo") from error


class Undo:
    """The moves back, and the domains that can't or needn't go back.  ``upgrade`` None: nothing is to be moved."""

    def __init__(self, upgrade: Upgrade | None, ways: Sequence[WayBack], batch: int) -> None:
        self.upgrade, self.batch = upgrade, batch
        self.stay = [_stays(way) for way in ways if way.finding is not None]
        self.notes = tuple(way.note for way in ways if way.note) if ways else ("nothing to undo",)

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        there = (Outlook(one.name, one.uuid, one.source, None, one.result, one.findings) for one in self.stay)
        return (*(self.upgrade.outlooks if self.upgrade else ()), *there)

    @property
    def forecast(self) -> Blackouts | None:
        """How often and how long libvirt's daemon will be away; None if that can't be told."""
        return self.upgrade.forecast if self.upgrade else None

    def run(self, watch: Watch) -> UpgradeReport:
        """As that of ``Upgrade``; the history says that this batch was taken back."""
        done = UpgradeReport((), ExitCode.DONE)
        if self.upgrade is not None:
            with undoing(self.batch):
                done = self.upgrade.run(watch)
        domains = (*done.domains, *self.stay)
        code = exit_code({domain.result for domain in domains}, [done.exit_code])
        return replace(done, domains=domains, exit_code=code, notes=(*done.notes, *self.notes), undo=True)


def _stays(way: WayBack) -> DomainReport:
    assert way.finding is not None
    entry = way.entry
    source = Side(entry.target) if entry.target else None
    return DomainReport(entry.name, entry.uuid, Result.BLOCKED, source=source, findings=(way.finding,))
