"""One domain on its way through mode ``reboot``: what is known, planned, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from virtcpr.actions.reboot import settle
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import VirtcprError
from virtcpr.host.processes.proc import Process
from virtcpr.model import (
    DomainReport,
    Finding,
    Mode,
    Outlook,
    Phase,
    PlannedStep,
    Recovered,
    Rehearsal,
    Result,
    Settled,
    Severity,
    Side,
    Trial,
)
from virtcpr.plan import reboot
from virtcpr.plan.decision import decide
from virtcpr.plan.findings.table import rehearsed
from virtcpr.plan.reboot import RebootPlan


@dataclass
class Passage:
    facts: DomainFacts
    plan: RebootPlan | None = None
    found: tuple[Finding, ...] = ()
    result: Result | None = None
    new: Process | None = None
    pause_ms: float | None = None
    phases: list[Phase] = field(default_factory=list)
    rehearsal: Rehearsal | None = None

    @classmethod
    def of(cls, facts: DomainFacts, *, suspend: bool) -> Passage:
        """Decide what to do with a domain: a plan, or the result that it already has."""
        decision = decide(facts)
        if decision.current:
            return cls(facts, result=Result.CURRENT)
        found = reboot.reasons(decision, suspend=suspend, agent=facts.agent)
        if reboot.blocked(found):
            return cls(facts, found=found, result=Result.BLOCKED)
        return cls(facts, reboot.plan(facts, suspend=suspend), found)

    def rehearsed(self, rehearsal: Rehearsal) -> None:
        """A twin has tried it: where that failed, the guest won't be touched."""
        self.rehearsal = rehearsal
        if found := rehearsed(self.facts, rehearsal):
            self.found = (*self.found, found)
        if rehearsal.trial is Trial.NO_GO:
            self.result = Result.BLOCKED

    def end(self, result: Result, *found: Finding) -> None:
        self.result = result
        self.found = (*self.found, *found)

    def fail(self, error: VirtcprError) -> None:
        """The error says how the guest is now."""
        results = {"rolled-back": Result.ROLLED_BACK, "unsettled": Result.UNKNOWN}
        finding = Finding(error.code, Severity.BLOCKER, error.message, error.hint or "")
        self.end(results.get(error.code, Result.FAILED), finding)

    def recovered(self, outcome: Recovered) -> None:
        """It was settled, as by `recover`, after a failure that left it open; what can't be settled stays so."""
        results = {Settled.FORWARD: Result.UPGRADED, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}
        if outcome.settled in results:
            self.result = results[outcome.settled]
            self.found = settle.amended(self.found, outcome, well=self.result is Result.UPGRADED)

    @property
    def source(self) -> Side | None:
        if self.facts.process is None or self.facts.qemu is None:
            return None
        return Side(self.facts.qemu.version, self.facts.process.pid)

    @property
    def target(self) -> Side | None:
        if self.facts.emulator.problem:
            return None
        return Side(self.facts.emulator.version, self.new.pid if self.new else None)

    def outlook(self) -> Outlook:
        facts = self.facts
        outlook = Outlook(facts.name, facts.uuid, self.source, self.target, self.result, self.found)
        if self.plan is None:
            return outlook
        return replace(
            outlook,
            mode=Mode.REBOOT,
            emulator=facts.emulator.path,
            steps=tuple(PlannedStep(s.name, s.describe, s.side.value, s.undo) for s in self.plan.steps),
            carried=tuple(f"RAM in {path}, which stays there" for path in self.plan.in_place),
            rehearsal=self.rehearsal,
        )

    def report(self) -> DomainReport:
        return DomainReport(
            name=self.facts.name,
            uuid=self.facts.uuid,
            result=self.result or Result.FAILED,
            mode=Mode.REBOOT if self.plan else None,
            source=self.source,
            target=self.target,
            pause_ms=self.pause_ms,
            phases=tuple(self.phases),
            findings=self.found,
        )
