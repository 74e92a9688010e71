"""``upgrade --mode reboot``: every guest to a file, ended, started again by libvirt on the installed QEMU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from virtcpr.actions.daemon import qemu_hook
from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.reboot.move import Passage
from virtcpr.actions.reboot.parallel import together
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.reboot.save_guest import Saving
from virtcpr.actions.records import history, journal, saves
from virtcpr.actions.records.journal import SETTLE
from virtcpr.actions.rehearsal import rehearse
from virtcpr.actions.transfer.batch import exit_code
from virtcpr.errors import HostError, Unsettled, VirtcprError
from virtcpr.host.files import filesystems
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes import guard
from virtcpr.host.processes.guard import Guard
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.lock import Lock
from virtcpr.model import Finding, Mode, Outlook, Progress, Request, Result, Severity, UpgradeReport
from virtcpr.plan import reboot
from virtcpr.plan.reboot_recovery import Purpose

Watch = Callable[[Progress], None]


def planned(connection: Connection, request: Request) -> list[tuple[Domain, Passage]]:
    """What would be done with each domain of the request: looked at, judged, planned, rehearsed.  Touches nothing.

    Raises UsageError and HostError.
    """
    probe = Probe(request.emulator, ping=request.suspend)
    found = [(one, Passage.of(probe.facts(one), suspend=request.suspend)) for one in chosen(connection, request)]
    room = filesystems.free_bytes(saves.DIRECTORY)
    for _, passage in found:
        if passage.plan is None:
            continue
        lacking = tuple(reboot.no_room(passage.facts.name, passage.plan.needs_kib, room, str(saves.DIRECTORY)))
        room -= 0 if lacking else passage.plan.needs_kib * 1024
        if lacking:
            passage.end(Result.BLOCKED, *lacking)
    if request.rehearse:
        ready = [(domain, passage) for domain, passage in found if passage.result is None]
        parts = [rehearse.Part(passage.facts, domain.monitor) for domain, passage in ready]
        rehearse.rehearse(parts, Mode.REBOOT)
        for (_, passage), part in zip(ready, parts, strict=True):
            passage.rehearsed(part.result)
    return found


@contextmanager
def open_upgrade(request: Request) -> Iterator[RebootUpgrade]:
    """Take the host's lock, look at every domain that is asked for, and plan.  Nothing is touched.

    Raises UsageError for a request that can't be meant, HostError where the host isn't as it must be, Unsettled where
    something earlier was interrupted.
    """
    if os.geteuid() != 0:
        raise HostError("only root can move guests", hint="run it with sudo")
    with Lock():
        journal.refuse_unsettled()
        saves.refuse_unsettled()
        upgrade = RebootUpgrade(request, Connection(request.uri))
        try:
            yield upgrade
        finally:
            upgrade.connection.close()


class RebootUpgrade:
    """A planned batch.  ``outlooks`` is what ``run`` would do."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self.request, self.connection = request, connection
        self.interrupt = Interrupt()
        self.blackout_ms: float | None = None
        self.notes: list[str] = []
        self.passages = planned(connection, request)

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return tuple(passage.outlook() for _, passage in self.passages)

    def run(self, watch: Watch) -> UpgradeReport:
        """Move every domain that can be.  Never raises for one domain's sake: its result says what became of it.

        A signal gives up what isn't ended yet; what is gets restored.
        """
        ready = [passage for _, passage in self.passages if passage.result is None]
        for _, passage in self.passages:
            if passage.result is not None:
                watch(Progress(passage.facts.name, "", result=passage.result))
        if ready:
            with self.interrupt:
                self._run(ready, watch)
        reports = tuple(passage.report() for _, passage in self.passages)
        for passage in ready:
            history.append(passage.report())
        return UpgradeReport(reports, exit_code({r.result for r in reports}), self.blackout_ms, tuple(self.notes))

    def _run(self, ready: list[Passage], watch: Watch) -> None:
        try:
            self.connection = qemu_hook.ready(self.connection)
            for path, target in {(one.facts.emulator.path, one.facts.emulator.target) for one in ready}:
                self.connection.learn(path, target)
            watched: Guard = guard.arm(daemon.running().recipe)
        except (VirtcprError, OSError) as error:
            for passage in ready:
                passage.fail(HostError(f"{error}; nothing was touched", hint=getattr(error, "hint", None)))
            return
        try:
            together(ready, lambda passage: self._move(passage, watch), self.request.parallel)
            self._strip(ready)
            # A start that libvirt's daemon died in can be settled only now.
            if again := [passage for passage in ready if passage.result is Result.UNKNOWN]:
                for passage in again:
                    _settle(passage)
                self._strip(again)
        finally:
            watched.disarm()

    def _move(self, passage: Passage, watch: Watch) -> None:
        try:
            self._through_the_file(passage, watch)
            passage.end(Result.UPGRADED)
        except VirtcprError as error:
            passage.fail(error)
        except Exception as error:  # a defect: what became of the guest isn't known, and no other one may suffer
            passage.fail(Unsettled(f"{passage.facts.name}: {type(error).__name__}: {error}", hint=SETTLE))
        if passage.result is Result.UNKNOWN:  # now, not when the others are done: its guest may be paused
            _settle(passage)
        pause = passage.pause_ms if passage.result is Result.UPGRADED else None
        watch(Progress(passage.facts.name, "done", result=passage.result, pause_ms=pause))

    def _through_the_file(self, passage: Passage, watch: Watch) -> None:
        assert passage.plan is not None

        def enter(phase: str) -> None:
            watch(Progress(passage.facts.name, phase))

        domain = self.connection.lookup(passage.facts.uuid)
        away = Saving(domain, passage.plan, Purpose.UPGRADE, enter, lambda: self.interrupt.requested)
        try:
            away.run()
        finally:
            passage.phases += away.phases
        back = Restoring(self.connection, away.record, passage.facts.emulator, enter)
        try:
            back.run(read=False)
        finally:
            passage.phases += back.phases
            passage.new = back.new
        if away.stopped is not None and back.resumed is not None:
            passage.pause_ms = round((back.resumed - away.stopped) * 1000, 1)

    def _strip(self, ready: list[Passage]) -> None:
        """What made the domains wait goes out of libvirt's records, while its daemon is down."""
        moved = [one for one in ready if one.result is Result.UPGRADED and one.new is not None]
        guests = {one.facts.uuid: one.new for one in moved if one.new is not None}
        self.connection, took, problems = strip.strip(self.connection, guests)
        self.blackout_ms = took or self.blackout_ms
        for passage in moved:
            passage.found = (*passage.found, *(_warning(text) for text in problems))


def _settle(passage: Passage) -> None:
    outcome = settle.at_once(passage.facts.uuid)
    if outcome is not None:
        passage.recovered(outcome)


def _warning(text: str) -> Finding:
    return Finding("leftover", Severity.WARNING, text, strip.REMEDY)
