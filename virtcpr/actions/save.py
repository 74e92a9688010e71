"""``save``: save guests to files before a reboot of the host."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from virtcpr.actions.daemon import blackout, qemu_hook
from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.reboot import disks
from virtcpr.actions.reboot.parallel import together
from virtcpr.actions.reboot.save_guest import Saving
from virtcpr.actions.reboot.settle import settle_report
from virtcpr.actions.records import saves
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.actions.rehearsal import rehearse
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import SETTLE, HostError, Unsettled, VirtcprError
from virtcpr.host.files import filesystems
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.lock import Lock
from virtcpr.model import (
    ExitCode,
    Finding,
    Keeping,
    KeptDomain,
    Mode,
    Progress,
    Request,
    SaveReport,
    Settled,
    Trial,
    Watch,
)
from virtcpr.plan.decision import decide
from virtcpr.plan.findings.table import UNTOLD, rehearsed
from virtcpr.plan.outcome import exit_code, failed
from virtcpr.plan.reboot import save as reboot
from virtcpr.plan.reboot.recovery import Purpose
from virtcpr.plan.reboot.save import RebootPlan

log = logging.getLogger(__name__)

SETTLED = {Settled.BACK: Keeping.ROLLED_BACK, Settled.WAITING: Keeping.SAVED, Settled.LOST: Keeping.FAILED}


@dataclass
class Guest:
    """A domain to save, and its result."""

    domain: Domain
    plan: RebootPlan | None
    report: KeptDomain


@contextmanager
def open_save(request: Request) -> Iterator[SaveBatch]:
    """Take the host's lock, look at every domain of the request.  Nothing is touched.  When the host goes down, another
    virtcpr is waited for, which is being stopped: nobody would save the guests later.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    if os.geteuid() != 0:
        raise HostError("only root can save guests", hint="run it with sudo")
    with Lock(wait=daemon.host_goes_down()):
        refuse_unsettled()
        batch = SaveBatch(request, Connection(request.uri))
        try:
            yield batch
        finally:
            batch.connection.close()


class SaveBatch:
    """Domains to save.  ``outlooks`` is what ``run`` would do."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self.request, self.connection = request, connection
        self.interrupt = Interrupt()
        self.notes: list[str] = []
        probe = Probe(ping=request.suspend)
        self.guests = [self._look(domain, probe) for domain in chosen(connection, request)]
        self._refuse_without_room()
        if request.rehearse:
            self._rehearse()

    def _look(self, domain: Domain, probe: Probe) -> Guest:
        facts = probe.facts(domain)
        report = KeptDomain(facts.name, facts.uuid, Keeping.BLOCKED, facts.qemu.version if facts.qemu else None)
        findings = reboot.reasons(decide(facts), suspend=self.request.suspend, agent=facts.agent)
        if reboot.blocked(findings):
            return Guest(domain, None, replace(report, findings=findings))
        assert facts.qemu is not None
        files = (memdev.path or "" for memdev in facts.qemu.memdevs if reboot.stays(memdev))
        lasting = [path for path in files if filesystems.survives(path)]
        plan = reboot.plan(facts, lasting=lasting, suspend=self.request.suspend)
        findings = (*findings, *_untold(facts))
        report = replace(report, result=Keeping.SAVED, in_place=bool(plan.in_place), findings=findings)
        return Guest(domain, plan, report)

    def _refuse_without_room(self) -> None:
        room = filesystems.free_bytes(saves.DIRECTORY)
        for guest in self.guests:
            if guest.plan is None:
                continue
            name, needs = guest.report.name, guest.plan.needs_kib
            lacking = tuple(reboot.no_room(name, needs, room, str(saves.DIRECTORY)))
            if lacking:
                guest.plan = None
                findings = (*guest.report.findings, *lacking)
                guest.report = replace(guest.report, result=Keeping.BLOCKED, findings=findings)
            else:
                room -= needs * 1024

    def _rehearse(self) -> None:
        """Block a guest that the installed QEMU can't load: it couldn't be restored after the reboot."""
        ready = [guest for guest in self.guests if guest.plan is not None and not guest.plan.facts.current]
        cases = [rehearse.Case(guest.plan.facts, guest.domain.monitor) for guest in ready if guest.plan is not None]
        rehearse.rehearse(cases, Mode.REBOOT)
        for guest, case in zip(ready, cases, strict=True):
            if finding := rehearsed(case.facts, case.result):
                guest.report = replace(guest.report, findings=(*guest.report.findings, finding))
            if case.result.trial is Trial.NO_GO:
                guest.plan, guest.report = None, replace(guest.report, result=Keeping.BLOCKED)

    @property
    def outlooks(self) -> tuple[KeptDomain, ...]:
        return tuple(guest.report for guest in self.guests)

    def run(self, watch: Watch) -> SaveReport:
        """Save every domain that isn't blocked.  A domain's failure is its result, never an exception.

        A signal cancels unfinished saves: those guests keep running.
        """
        ready = [guest for guest in self.guests if guest.plan is not None]
        codes: list[ExitCode] = []
        if ready:
            with self.interrupt, blackout.guarded(required=False):
                try:
                    self._refuse_starts()
                except (hooks.Forbidden, blackout.DaemonDown) as error:  # what is saved couldn't be restored
                    codes = blackout.codes(error)
                    for guest in ready:
                        guest.report = failed(guest.report, HostError(f"{error}; nothing was touched", hint=error.hint))
                else:
                    together(ready, lambda guest: self._save(guest, watch), self.request.parallel)
        results = {outlook.result for outlook in self.outlooks}
        return SaveReport(self.outlooks, exit_code(results, codes), tuple(self.notes))

    def _refuse_starts(self) -> None:
        """Keep libvirt from starting a saved domain.  The daemon isn't restarted if the host is shutting down: then
        a guest is better saved without the hook than ended.  Otherwise raises hooks.Forbidden, or DaemonDown."""
        down = daemon.host_goes_down()
        try:
            if down:
                hooks.put(qemu_hook.NAME)
            else:
                self.connection = qemu_hook.ready(self.connection)
        except (HostError, OSError) as error:
            if isinstance(error, (hooks.Forbidden, blackout.DaemonDown)) and not down:
                raise
            self.notes.append(f"{error}; don't start a saved domain: restore it")

    def _save(self, guest: Guest, watch: Watch) -> None:
        assert guest.plan is not None
        name = guest.report.name

        def enter(phase: str) -> None:
            watch(Progress(name, phase))

        saving: Saving | None = None
        try:
            domain = self.connection.lookup(guest.report.uuid)
            saving = Saving(domain, guest.plan, Purpose.SAVE, enter, lambda: self.interrupt.requested)
            saving.run()
            saved = saving.record.saved
            guest.report = replace(
                guest.report, size=saved.state.size if saved.state else None, saved_at=saved.saved_at
            )
        except VirtcprError as error:
            guest.report = failed(guest.report, error)
        except Exception as error:  # a bug: the guest's state isn't known; the other guests must not suffer
            guest.report = failed(guest.report, Unsettled(f"{name}: {type(error).__name__}: {error}", hint=SETTLE))
        if guest.report.result is Keeping.UNKNOWN:  # at once: the guest may be paused
            guest.report = settle_report(guest.report, SETTLED)
        if saving is not None:
            guest.report = replace(guest.report, phases=tuple(saving.phases))
        watch(Progress(name, "done", result=guest.report.result))


def _untold(facts: DomainFacts) -> tuple[Finding, ...]:
    """The disks of which `restore` won't be able to tell whether they were written to."""
    names = disks.untold(facts.xml, disks.files(facts.xml), disks.blocks(facts.xml))
    return tuple(UNTOLD.finding(facts.name, {"disk": name}) for name in names)
