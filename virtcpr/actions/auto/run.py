"""``auto``: apply the configuration to running domains whose QEMU is outdated."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from shlex import quote

from virtcpr.actions.auto import notify
from virtcpr.actions.auto.candidates import candidate, this_moment
from virtcpr.actions.auto.pending import Note
from virtcpr.actions.daemon import blackout
from virtcpr.actions.prepare import open_preparation
from virtcpr.actions.records import history
from virtcpr.actions.records.configuration import configured
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.actions.rehearsal.rehearse import rehearse_outcomes
from virtcpr.actions.transfer.move import probed
from virtcpr.actions.upgrade import open_upgrade, outlooks
from virtcpr.errors import HostError, Unsettled, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system import packages
from virtcpr.host.system.wait import wait_until
from virtcpr.model import (
    AVAILABLE,
    Action,
    AutoDomain,
    AutoReport,
    DomainReport,
    ExitCode,
    Mode,
    Outlook,
    Probation,
    Progress,
    Readying,
    Request,
    Result,
    Rollout,
    Watch,
)
from virtcpr.plan import auto
from virtcpr.plan.auto import AutoPlan, Candidate, Wave
from virtcpr.plan.batch.forecast import with_forecast
from virtcpr.plan.outcome import exit_code
from virtcpr.plan.policy import Auto, Policy

log = logging.getLogger(__name__)
PAUSE_POLL = 0.1  # s; a signal sets a flag, for which there is no event
INTERRUPTED = "interrupted"
LATER = "virtcpr-auto.timer is started: it moves what waits"
NEVER = "nothing moves by itself what waits: run `virtcpr auto` again then"
TRIED = (Action.UPGRADED, Action.ROLLED_BACK, Action.FAILED, Action.UNKNOWN)
DONE = (Result.UPGRADED, Result.CURRENT)


@contextmanager
def open_auto(uri: str | None, *, pending: bool, dry_run: bool) -> Iterator[Automatic]:
    """Read the configuration, look at the running domains, plan and rehearse.  Nothing is touched.

    With ``pending``, only if there is a note, and after the package managers are done.  In the end the note is removed,
    or put back if something must wait or failed.  Raises HostError and ParseError; without ``pending`` also Unsettled.
    """
    if os.geteuid() != 0:
        raise HostError("only root can move guests", hint="run it with sudo")
    note = Note() if pending and not dry_run else None
    if note is None:
        yield _now(uri, configured(), dry_run=dry_run)
        return
    if not (note.take() or note.there()):
        note.finish()
        yield Automatic(Policy(), uri, notes=("nothing is pending",))
        return
    automatic = None
    try:
        automatic = _after(note, uri)
        yield automatic
    except BaseException:
        note.put_back()
        raise
    if automatic.waits:
        note.put_back()
    else:
        note.finish()


def _after(note: Note, uri: str | None) -> Automatic:
    """What to do after the package managers are done.  What can't be done yet waits for the timer."""
    rules = configured()
    if rules.auto is Auto.OFF:
        return _off(rules, uri)
    if holder := packages.await_quiet(note.take):
        return Automatic(rules, uri, notes=(f"package managers are at work: {holder}",), waits=True)
    rules = configured()  # packages may have changed it
    if rules.auto is Auto.OFF:
        return _off(rules, uri)
    if note.told and not rules.open(now := this_moment()):
        return Automatic(rules, uri, notes=(auto.closed(rules, now),), waits=True)
    try:
        return Automatic(rules, uri, _look(uri, rules), note=note)
    except (HostError, Unsettled) as error:
        log.warning("%s; %s", error.message, error.hint or "it is tried again")
        return Automatic(rules, uri, notes=(error.message,), waits=True)


def _now(uri: str | None, rules: Policy, *, dry_run: bool) -> Automatic:
    if rules.auto is Auto.OFF:
        return _off(rules, uri)
    holder = packages.busy()
    if holder and not dry_run:
        return Automatic(rules, uri, notes=(f"package managers are at work: {holder} is held; nothing was done",))
    return Automatic(rules, uri, _look(uri, rules), by_hand=not dry_run)


def _off(rules: Policy, uri: str | None) -> Automatic:
    return Automatic(rules, uri, notes=('auto is "off": nothing was looked at',))


def _look(uri: str | None, rules: Policy) -> AutoPlan:
    """Raises HostError if libvirt doesn't answer, Unsettled if an earlier swap was interrupted."""
    refuse_unsettled()
    pauses = {mode: history.pauses(mode) for mode in AVAILABLE}
    with Connection(uri) as connection:
        pairs = probed(connection, Request(every=True, uri=uri))
        moves = history.last_moves()
        tried = [pair for pair in pairs if auto.to_rehearse(candidate(pair[1], moves), rules)]
        rehearse_outcomes(tried, Mode.TRANSFER)
        candidates = [candidate(move, moves) for _, move in pairs]
        candidates = [
            replace(guest, outlook=with_forecast(guest.outlook, pauses[Mode.TRANSFER])) for guest in candidates
        ]

        def look(mode: Mode, to_try: Callable[[Candidate, Policy], bool]) -> dict[str, Outlook]:
            others = tuple(guest.outlook.uuid for guest in candidates if to_try(guest, rules))
            found = outlooks(connection, Request(others, uri=uri, mode=mode)) if others else []
            return {outlook.uuid: with_forecast(outlook, pauses[mode]) for outlook in found}

        copied = look(Mode.LIVE, auto.to_copy)
        candidates = [replace(guest, live=copied.get(guest.outlook.uuid)) for guest in candidates]
        rebooted = look(Mode.REBOOT, auto.to_reboot)
        candidates = [replace(guest, reboot=rebooted.get(guest.outlook.uuid)) for guest in candidates]
    return auto.plan(candidates, rules, this_moment())


class Automatic:
    """A run of `auto`.  ``waits``: something must wait, so the note stays; a run ``by_hand`` leaves one."""

    def __init__(
        self,
        rules: Policy,
        uri: str | None,
        plan: AutoPlan | None = None,
        *,
        notes: tuple[str, ...] = (),
        waits: bool = False,
        note: Note | None = None,
        by_hand: bool = False,
    ) -> None:
        self.rules, self.uri, self.note = rules, uri, note
        self.plan = plan or AutoPlan()
        self.domains = {domain.uuid: domain for domain in self.plan.domains}
        self.notes, self.blackout_ms = [*notes], 0.0
        self.codes: list[ExitCode] = []  # of the waves
        self.by_hand, self._waits = by_hand, waits

    @property
    def waits(self) -> bool:
        return self._waits or any(domain.action is Action.WAITING for domain in self.domains.values())

    @property
    def report(self) -> AutoReport:
        """What would be done."""
        return AutoReport(tuple(self.domains.values()), exit_code(set()), notes=tuple(self.notes), dry_run=True)

    @property
    def moving(self) -> tuple[str, ...]:
        return tuple(domain.name for domain in self.domains.values() if domain.action is Action.MOVE)

    def run(self, watch: Watch) -> AutoReport:
        """Move the planned domains, wave by wave; stop after a wave that fails.

        A domain's failure is its result, never an exception.  SIGINT, SIGTERM and SIGHUP end the wave as they end
        ``upgrade``; the next waves wait.
        """
        with Interrupt() as interrupt:
            for number, wave in enumerate(self.plan.waves):
                if number and self._left():
                    self._pause(watch, interrupt)
                if interrupt.requested:
                    self._rest(Action.WAITING, INTERRUPTED)
                elif not self.rules.open(now := this_moment()):
                    self._rest(Action.WAITING, auto.closed(self.rules, now))
                elif wave.uuids[0] in self._left():
                    self._move(wave, watch, interrupt)
        results = {domain.action.result for domain in self.domains.values()} - {None}
        code = exit_code({result for result in results if result}, self.codes)
        if self.by_hand and self.waits:  # else nobody would come back for it
            self.notes.append(LATER if Note().leave() else NEVER)
        return AutoReport(tuple(self.domains.values()), code, self.blackout_ms or None, tuple(self.notes))

    def tell(self, report: AutoReport, document: str, table: str, *, changes: bool = False) -> None:
        """Report the results; report a waiting note only once.  ``changes``: report nothing again."""
        if not report.domains and self.notes:  # nothing was looked at
            log.info("auto: %s", "; ".join(self.notes))
            return
        if self.note is not None and self.waits:
            if self.note.told and not any(domain.action in TRIED for domain in report.domains):
                return
            self.note.mark_told()
        notify.tell(self.rules, report, document, table, changes=changes)

    def _left(self) -> tuple[str, ...]:
        """The domains still to move."""
        return tuple(domain.uuid for domain in self.domains.values() if domain.action is Action.MOVE)

    def _rest(self, action: Action, reason: str) -> None:
        for uuid in self._left():
            self.domains[uuid] = replace(self.domains[uuid], action=action, reason=reason, mode=None)

    def _move(self, wave: Wave, watch: Watch, interrupt: Interrupt) -> None:
        watched = self.rules.watch_s and wave.mode is Mode.TRANSFER
        request = Request(
            wave.uuids,
            uri=self.uri,
            parallel=self.rules.parallel or None,
            mode=wave.mode,
            max_blackout_s=self.rules.max_blackout_s or None,
            probation=Probation(self.rules.watch_s) if watched else None,
            rollout=Rollout(canary=len(wave.uuids)) if wave.canary else None,  # the administrator's programs are told
        )
        try:
            if wave.mode is Mode.LIVE:
                self._prepare(wave)
            with open_upgrade(request) as upgrade:
                if interrupt.requested:  # while looking at the domains
                    self._rest(Action.WAITING, INTERRUPTED)
                    return
                if wave.mode is not Mode.REBOOT:  # a daemon restart would cancel jobs: that isn't the guest's failure
                    blackout.refuse_jobs(upgrade.connection)
                report = upgrade.run(watch)
                interrupted = upgrade.interrupt.requested
        except VirtcprError as error:  # it couldn't begin: no domain of the wave was touched
            self._rest(Action.WAITING, error.message)
            return
        self.notes += report.notes
        self.codes.append(report.exit_code)
        self.blackout_ms += report.blackout_ms or 0
        for domain in report.domains:
            self.domains[domain.uuid] = _became(domain)
        failed = [domain.name for domain in report.domains if _failed(domain.result, canary=wave.canary)]
        if failed:
            first = "the canary " if wave.canary else ""
            self._rest(Action.LEFT, f"{first}{', '.join(failed)} wasn't moved; this one wasn't touched")
        elif interrupted:
            self._rest(Action.WAITING, INTERRUPTED)

    def _pause(self, watch: Watch, interrupt: Interrupt) -> None:
        """A signal ends it."""
        if seconds := self.rules.pause_between_s:
            watch(Progress("", f"the next wave begins in {seconds} s"))
            wait_until(lambda: interrupt.requested, seconds, poll=PAUSE_POLL)

    def _prepare(self, wave: Wave) -> None:
        """So that these domains stay ready after their next start.  What can't be prepared is moved all the same."""
        with open_preparation(Request(wave.uuids, uri=self.uri), None, undo=False) as prepared:
            done = prepared.run()
        if left := [domain.name for domain in done.domains if domain.result in (Readying.BLOCKED, Readying.FAILED)]:
            again = f"virtcpr prepare {' '.join(map(quote, left))}"
            self.notes.append(f"not prepared for their next start: {', '.join(left)} ('{again}' says why)")


def _failed(result: Result, *, canary: bool) -> bool:
    """A canary must be moved.  For other domains, a refusal before any change isn't a failure."""
    return result not in (DONE if canary else (*DONE, Result.BLOCKED))


def _became(domain: DomainReport) -> AutoDomain:
    return AutoDomain(
        name=domain.name,
        uuid=domain.uuid,
        action=Action(domain.result.value),
        mode=domain.mode,
        source=domain.source,
        target=domain.target,
        pause_ms=domain.pause_ms,
        phases=domain.phases,
        findings=domain.findings,
    )
