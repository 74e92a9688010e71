"""One domain on its way through a batch: what is known, planned, started, and what became of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from shlex import quote

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.records import batch, history
from virtcpr.actions.records.journal import Entry, Journal
from virtcpr.actions.rehearsal.rehearse import rehearse_outcomes
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.actions.transfer.new_qemu import NewQemu
from virtcpr.domain import shared_ram
from virtcpr.domain.facts import DomainFacts
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes import descriptors, oom
from virtcpr.host.processes.proc import Process
from virtcpr.model import (
    Blackout,
    DomainReport,
    Finding,
    Mode,
    Outlook,
    Recovered,
    Request,
    Result,
    Settled,
    Severity,
    Trial,
)
from virtcpr.plan.batch.descriptors import needed, that_fit
from virtcpr.plan.batch.forecast import refuse_long_blackouts, refuse_long_pauses
from virtcpr.plan.decision import decide
from virtcpr.plan.findings.table import DESCRIPTORS, PARKED_UNSURE
from virtcpr.plan.outcome import Outcome, amended, planned_steps
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.swap import Plan


@dataclass
class Move(Outcome):
    """``moved``: past the point of no return, old QEMU is gone and libvirt's record names new."""

    plan: Plan | None = None
    moved: bool = False
    blackout: Blackout | None = None
    new: NewQemu | None = None
    hand_over: HandOver | None = None

    @classmethod
    def of(cls, facts: DomainFacts, request: Request) -> Move:
        """Decide what to do with a domain: a plan, or the result that it already has."""
        if request.unready and facts.qemu is not None and facts.qemu.handed_over:
            return cls(facts, result=Result.CURRENT)
        mode = moved_by(request)
        decision = decide(facts, mode=mode, force=request.force, trying=request.trying, parked=request.parked)
        findings = () if decision.current else decision.reasons(mode)
        return cls(facts, findings, decision.verdict, plan=None if decision.verdict else decision.plan)

    def recovered(self, recovered: Recovered) -> None:
        """Take recovery's result: after an unsettled failure it gave the guest to one of the two."""
        results = {Settled.FORWARD: None, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}
        self.result = results.get(recovered.settled, Result.ROLLED_BACK)
        self.moved = recovered.settled is Settled.FORWARD
        self.findings = amended(self.findings, recovered, success=self.moved)

    def stays_unsettled(self, outcome: Recovered) -> None:
        """Recovery couldn't settle it, either: its text on the guest and on libvirt's record becomes a finding."""
        self.moved = False
        self.end(
            Result.UNKNOWN, Finding("held", Severity.BLOCKER, outcome.text, f"virtcpr recover {quote(self.facts.name)}")
        )

    def journal(self, daemon: Mapping[str, object]) -> Journal:
        """The journal of the plan; nothing is written yet.  ``daemon`` is how libvirt's daemon is started again."""
        assert self.plan is not None
        belongs = batch.current()
        return Journal(
            Entry(
                uuid=self.plan.uuid,
                state=State.PLANNED,
                guest=self.plan.guest,
                old_pid=self.plan.pid,
                old_started=self.plan.started,
                argv=self.plan.argv,
                daemon=daemon,
                source=self.facts.qemu.version if self.facts.qemu else None,
                target=self.facts.emulator.version or None,
                source_build=self.facts.process.build if self.facts.process else None,
                target_build=self.facts.emulator.build or None,
                batch=belongs.number,
                undoes=belongs.undoes,
                oom_score_adj=oom.score(Process(self.plan.pid, self.plan.started)),
            )
        )

    @property
    def expected(self) -> DomainFacts:
        """The domain as it must be after the move, but for its QEMU."""
        copied = self.plan is not None and self.plan.mode is Mode.LIVE
        return replace(self.facts, xml=shared_ram.readied(self.facts.xml)) if copied else self.facts

    @property
    def there(self) -> HandOver:
        """The hand-over of a move whose new QEMU was started."""
        assert self.hand_over is not None
        return self.hand_over

    def outlook(self) -> Outlook:
        if self.plan is None:
            return super().outlook()
        inherited = sorted((*self.plan.carried, *self.plan.bound), key=lambda fd: fd.number)
        opened = (f"{fd.path}, opened again" for fd in self.plan.opened)
        return replace(
            super().outlook(),
            rehearsal=self.rehearsal,
            mode=self.plan.mode,
            emulator=self.facts.emulator.path,
            steps=planned_steps(self.plan.steps),
            carried=(*(fd.what for fd in inherited), *opened),
            replayed=tuple(command.describe for command in self.plan.replay),
        )

    def report(self) -> DomainReport:
        moved = self.result in (Result.UPGRADED, Result.UNKNOWN)
        over = self.hand_over
        return DomainReport(
            name=self.facts.name,
            uuid=self.facts.uuid,
            result=self.result or Result.FAILED,
            mode=self.plan.mode if self.plan else None,
            source=self.source,
            target=self.target(self.new.process.pid if moved and self.new else None),
            pause_ms=over.pause_ms if over and (moved or self.result is Result.ROLLED_BACK) else None,
            phases=(*self.phases, *(over.phases if over else ())),
            findings=self.findings,
            blackout=self.blackout,
        )


def planned(connection: Connection, request: Request, *, ping: bool = False) -> list[Move]:
    """A move for each domain of the request: probed, judged, planned, rehearsed.  Touches nothing.

    ``ping``: also check whose guest agent answers.  Raises UsageError and HostError; a problem of one domain is
    in its move.
    """
    pairs = probed(connection, request, ping=ping)
    moves = [move for _, move in pairs]
    mode = moved_by(request)
    refuse_long_pauses(moves, request.max_pause_ms, history.pauses(mode))
    refuse_long_blackouts(moves, request.max_blackout_s, history.blackouts(mode))
    _fit([move for move in moves if move.result is None], parallel(request))
    if request.rehearse:
        rehearse_outcomes(pairs, mode, back=request.probation is not None, parked=request.parked)
        if request.parked:
            _refuse_unsure(moves)
    return moves


def _refuse_unsure(moves: list[Move]) -> None:
    """Parked, a guest needs a build that can be started again, which its twin shows."""
    for move in moves:
        if move.result is None and move.rehearsal is not None and move.rehearsal.trial is Trial.UNSURE:
            move.end(Result.BLOCKED, PARKED_UNSURE.finding(move.facts.name, {"words": move.rehearsal.words}))


def moved_by(request: Request) -> Mode:
    """The mode of the request: two processes side by side."""
    return request.mode or Mode.TRANSFER


def _fit(moves: list[Move], parallel: int) -> None:
    """Block the domains that one batch has no descriptors for; allow what the others need."""
    limit = descriptors.most()
    plans = [move.plan for move in moves if move.plan is not None]
    number = that_fit(plans, limit, parallel)
    for move in moves[number:]:
        move.end(Result.BLOCKED, DESCRIPTORS.finding(move.facts.name, {"limit": str(limit)}))
    descriptors.allow(needed(plans[:number], parallel))


def parallel(request: Request) -> int:
    """How many guests are handed over at once."""
    return request.parallel or os.cpu_count() or 1


def probed(connection: Connection, request: Request, *, ping: bool = False) -> list[tuple[Domain, Move]]:
    """Each domain of the request with its move, not rehearsed yet."""
    probe = Probe(request.emulator, emulators=request.emulators, ping=ping)
    return [(domain, Move.of(probe.facts(domain), request)) for domain in chosen(connection, request)]
