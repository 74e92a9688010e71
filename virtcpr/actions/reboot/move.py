"""One domain on its way through mode ``reboot``: what is known, planned, and what became of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from virtcpr.actions.inspect.probe import Probe
from virtcpr.actions.inspect.selection import chosen
from virtcpr.actions.records import history, saves
from virtcpr.actions.rehearsal.rehearse import rehearse_outcomes
from virtcpr.domain.facts import DomainFacts
from virtcpr.host.files import filesystems
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process
from virtcpr.model import (
    DomainReport,
    Mode,
    Outlook,
    Recovered,
    Request,
    Result,
    Settled,
)
from virtcpr.plan.batch.forecast import refuse_long_pauses
from virtcpr.plan.decision import decide
from virtcpr.plan.outcome import Outcome, amended, planned_steps
from virtcpr.plan.reboot import save as reboot
from virtcpr.plan.reboot.save import RebootPlan


@dataclass
class Move(Outcome):
    plan: RebootPlan | None = None
    new: Process | None = None
    pause_ms: float | None = None
    runs: bool = False  # in new QEMU, whatever the result

    @classmethod
    def of(cls, facts: DomainFacts, request: Request) -> Move:
        """Decide what to do with a domain: a plan, or the result that it already has."""
        if request.unready and facts.qemu is not None and facts.qemu.handed_over:
            return cls(facts, result=Result.CURRENT)
        suspend = request.suspend
        decision = decide(facts, force=request.force)
        if decision.current:
            return cls(facts, result=Result.CURRENT)
        findings = reboot.reasons(decision, suspend=suspend, agent=facts.agent, readies=request.unready)
        if reboot.blocked(findings):
            return cls(facts, findings, Result.BLOCKED)
        return cls(facts, findings, plan=reboot.plan(facts, suspend=suspend, readies=request.unready))

    def recovered(self, recovered: Recovered) -> None:
        """Take recovery's result after an unsettled failure; what can't be settled stays so."""
        results = {Settled.FORWARD: Result.UPGRADED, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}
        if recovered.settled in results:
            self.result = results[recovered.settled]
            self.findings = amended(self.findings, recovered, success=self.result is Result.UPGRADED)

    def outlook(self) -> Outlook:
        if self.plan is None:
            return super().outlook()
        return replace(
            super().outlook(),
            rehearsal=self.rehearsal,
            mode=Mode.REBOOT,
            emulator=self.facts.emulator.path,
            steps=planned_steps(self.plan.steps),
            carried=tuple(f"RAM in {path}, which stays there" for path in self.plan.in_place),
        )

    def report(self) -> DomainReport:
        return DomainReport(
            name=self.facts.name,
            uuid=self.facts.uuid,
            result=self.result or Result.FAILED,
            mode=Mode.REBOOT if self.plan else None,
            source=self.source,
            target=self.target(self.new.pid if self.new else None),
            pause_ms=self.pause_ms,
            phases=tuple(self.phases),
            findings=self.findings,
        )


def planned(connection: Connection, request: Request) -> list[Move]:
    """A move for each domain of the request: probed, judged, planned, rehearsed.  Touches nothing.

    Raises UsageError and HostError; a problem of one domain is in its move.
    """
    probe = Probe(request.emulator, ping=request.suspend)
    pairs = [(domain, Move.of(probe.facts(domain), request)) for domain in chosen(connection, request)]
    moves = [move for _, move in pairs]
    refuse_long_pauses(moves, request.max_pause_ms, history.pauses(Mode.REBOOT))
    _refuse_without_room(moves)
    if request.rehearse:
        rehearse_outcomes(pairs, Mode.REBOOT)
    return moves


def _refuse_without_room(moves: Iterable[Move]) -> None:
    """Block every move whose state has no room left after the moves before it."""
    room = filesystems.free_bytes(saves.DIRECTORY)
    for move in moves:
        if move.plan is None:
            continue
        lacking = tuple(reboot.no_room(move.facts.name, move.plan.needs_kib, room, str(saves.DIRECTORY)))
        room -= 0 if lacking else move.plan.needs_kib * 1024
        if lacking:
            move.end(Result.BLOCKED, *lacking)
