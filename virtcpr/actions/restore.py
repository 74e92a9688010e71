"""``restore``: resume saved guests; ``--discard``: give up their saved state."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from shlex import quote

from virtcpr.actions.daemon import blackout, qemu_hook
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.reboot import settle, strip, validate
from virtcpr.actions.reboot.guest import forget_saved
from virtcpr.actions.reboot.parallel import together
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.reboot.settle import settle_report
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import Record
from virtcpr.actions.records.unsettled import refuse_unsettled_swaps
from virtcpr.domain.facts import Emulator
from virtcpr.errors import SETTLE, HostError, Unsettled, UsageError, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.lock import Lock
from virtcpr.model import ExitCode, Keeping, KeptDomain, Progress, Request, RestoreReport, Settled, Watch
from virtcpr.plan.outcome import exit_code, failed
from virtcpr.plan.reboot.recovery import Remedy, remedy

SETTLED = {Settled.WAITING: Keeping.WAITING, Settled.FORWARD: Keeping.RESTORED, Settled.LOST: Keeping.FAILED}


@dataclass
class Guest:
    """A saved guest and its result.  ``record`` is None if it can't be parsed."""

    uuid: str
    record: Record | None
    report: KeptDomain
    new: Process | None = None


@contextmanager
def open_restore(request: Request, *, discard: bool) -> Iterator[RestoreBatch]:
    """Take the host's lock, read the saved records.  Nothing is touched.

    Raises UsageError for a domain that isn't saved, HostError if the host isn't ready.
    """
    if os.geteuid() != 0:
        raise HostError("only root can restore guests", hint="run it with sudo")
    with Lock():
        refuse_unsettled_swaps()
        batch = RestoreBatch(request, Connection(request.uri), discard=discard)
        try:
            yield batch
        finally:
            batch.connection.close()


class RestoreBatch:
    """Saved guests to restore or to discard.  ``outlooks`` is what ``run`` would do."""

    def __init__(self, request: Request, connection: Connection, *, discard: bool) -> None:
        self.request, self.connection, self.discard = request, connection, discard
        self.interrupt = Interrupt()
        self.emulators = Emulators()
        self.blackout_ms: float | None = None
        self.notes: list[str] = []
        self._codes: list[ExitCode] = []
        self.guests = sorted(_chosen(connection, request), key=_order)
        for guest in self.guests:
            self._look(guest)

    @property
    def outlooks(self) -> tuple[KeptDomain, ...]:
        return tuple(guest.report for guest in self.guests)

    def _look(self, guest: Guest) -> None:
        """Block the guest if it can't be restored or discarded."""
        if self.discard:
            self._allow_discarding(guest)
            return
        if guest.record is None:
            return
        saved = guest.record.saved
        try:
            process = settle.found(self.connection, guest.record)
            decided = remedy(saved.stage, saved.purpose, process)
            if decided not in (Remedy.WAIT, Remedy.RESTORE):
                raise HostError(
                    f"{saved.name} isn't waiting for a restore ({saved.stage.value}, {process.value})",
                    hint=SETTLE,
                )
            # The states are read when their turn comes, many at a time: all of the RAM may be in them.
            trusted = self.request.disks_unchanged
            validate.look(guest.record, self._emulator(guest.record), read=False, trusted=trusted)
        except VirtcprError as error:
            guest.report = replace(failed(guest.report, error), result=Keeping.BLOCKED)

    def _allow_discarding(self, guest: Guest) -> None:
        """Refuse if the domain is active: its record isn't a waiting state then."""
        domain = self.connection.find(guest.uuid)
        if domain is not None and domain.active():
            error = HostError(f"{guest.report.name} runs; its saved state can't be discarded", hint=SETTLE)
            guest.report = replace(failed(guest.report, error), result=Keeping.BLOCKED)
        else:
            guest.report = replace(guest.report, result=Keeping.DISCARDED, findings=())

    def _emulator(self, record: Record) -> Emulator:
        named = self.request.emulator or record.saved.emulator or record.saved.live.emulator
        return self.emulators.get(named)

    def run(self, watch: Watch) -> RestoreReport:
        """Restore or discard each guest.  A guest's failure is its result, never an exception."""
        ready = [guest for guest in self.guests if guest.report.result in (Keeping.RESTORED, Keeping.DISCARDED)]
        if ready and self.discard:
            for guest in ready:
                self._give_up(guest)
        elif ready:
            with self.interrupt:
                self._restore_all(ready, watch)
        results = {outlook.result for outlook in self.outlooks}
        return RestoreReport(self.outlooks, exit_code(results, self._codes), self.blackout_ms, tuple(self.notes))

    def _give_up(self, guest: Guest) -> None:
        try:
            if guest.record is not None:
                forget_saved(guest.record)
            else:
                saves.discard(guest.uuid)
        except (VirtcprError, OSError) as error:
            guest.report = failed(guest.report, HostError(f"{guest.report.name}: {error}"))

    def _restore_all(self, ready: list[Guest], watch: Watch) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(blackout.guarded(required=True))
                self.connection = qemu_hook.ready(self.connection)
            except (VirtcprError, OSError) as error:
                self._codes += blackout.codes(error)
                hint = getattr(error, "hint", None)
                waits = HostError(f"{error}; nothing was touched, and its state waits", hint=hint)
                for guest in ready:
                    guest.report = replace(failed(guest.report, waits), result=Keeping.WAITING)
                return
            together(ready, lambda guest: self._restore(guest, watch), self.request.parallel)
            self._strip(ready, watch)
            # If libvirt's daemon died during a start, that can be settled only now.
            if unknown := [guest for guest in ready if guest.report.result is Keeping.UNKNOWN]:
                for guest in unknown:
                    guest.report = settle_report(guest.report, SETTLED)
                self._strip(unknown, watch)

    def _strip(self, guests: list[Guest], watch: Watch) -> None:
        running = {guest.uuid: guest.new for guest in guests if guest.new is not None}
        stripped = strip.strip_in_blackout(self.connection, running, watch)
        self.connection, self._codes = stripped.connection, [*self._codes, *stripped.codes]
        self.blackout_ms = stripped.blackout_ms or self.blackout_ms
        self.notes += stripped.problems

    def _restore(self, guest: Guest, watch: Watch) -> None:
        assert guest.record is not None
        name = guest.report.name

        def enter(phase: str) -> None:
            watch(Progress(name, phase))

        if self.interrupt.requested:
            error = HostError(
                f"{name}: interrupted before its turn; its state waits", hint=f"virtcpr restore {quote(name)}"
            )
            guest.report = replace(failed(guest.report, error), result=Keeping.WAITING)
            return
        emulator = self._emulator(guest.record)
        if self.request.emulator:
            guest.record.saved = replace(guest.record.saved, emulator=self.request.emulator)
        restoring = Restoring(self.connection, guest.record, emulator, enter)
        try:
            restoring.run(trusted=self.request.disks_unchanged)
            guest.new = restoring.new
            guest.report = replace(guest.report, qemu=emulator.version)
        except Unsettled as error:
            guest.report = failed(guest.report, error)
        except validate.Unfit as error:
            guest.report = replace(failed(guest.report, error), result=Keeping.BLOCKED)
        except VirtcprError as error:
            guest.report = replace(failed(guest.report, error), result=Keeping.WAITING)
        except Exception as error:  # a bug: the guest's state isn't known; the other guests must not suffer
            guest.report = failed(guest.report, Unsettled(f"{name}: {type(error).__name__}: {error}", hint=SETTLE))
        if guest.report.result is Keeping.UNKNOWN:  # at once: the guest may be paused
            guest.report = settle_report(guest.report, SETTLED)
        guest.report = replace(guest.report, phases=tuple(restoring.phases))
        watch(Progress(name, "done", result=guest.report.result))


def _order(guest: Guest) -> tuple[int, str]:
    return (guest.record.saved.order if guest.record else 0, guest.uuid)


def _chosen(connection: Connection, request: Request) -> list[Guest]:
    """The saved guests of a request.  Raises UsageError for a domain that isn't saved."""
    guests = [_guest(connection, uuid) for uuid in saves.waiting()]
    if request.every:
        return guests
    selected: list[Guest] = []
    for wanted in dict.fromkeys(request.domains):
        named = [guest for guest in guests if wanted and wanted in (guest.uuid, guest.report.name)]
        if not named:
            raise UsageError(f"domain {wanted!r} has no saved state", hint="'virtcpr restore --all' restores all")
        selected += [guest for guest in named if guest not in selected]  # named by name and by UUID
    return selected


def _guest(connection: Connection, uuid: str) -> Guest:
    try:
        record = saves.load(uuid)
    except HostError as error:
        domain = connection.find(uuid)
        report = KeptDomain(domain.name if domain else "", uuid, Keeping.BLOCKED)
        return Guest(uuid, None, replace(failed(report, error), result=Keeping.BLOCKED))
    saved = record.saved
    report = KeptDomain(
        name=saved.name,
        uuid=uuid,
        result=Keeping.RESTORED,
        qemu=saved.qemu,
        size=saved.state.size if saved.state else None,
        in_place=bool(saved.ram),
        saved_at=saved.saved_at,
    )
    return Guest(uuid, record, report)
