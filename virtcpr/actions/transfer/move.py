"""One domain on its way through a batch: what is known, planned, started, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from virtcpr.actions.records.journal import Entry, Journal
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.actions.transfer.new_qemu import NewQemu
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import RolledBack, VirtcprError
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
from virtcpr.plan.decision import decide
from virtcpr.plan.findings.table import rehearsed
from virtcpr.plan.steps import State
from virtcpr.plan.transfer import Plan


@dataclass
class Move:
    facts: DomainFacts
    plan: Plan | None = None
    found: tuple[Finding, ...] = ()
    result: Result | None = None
    moved: bool = False  # past the point of no return, old gone, libvirt's record written
    new: NewQemu | None = None
    hand_over: HandOver | None = None
    phases: list[Phase] = field(default_factory=list)
    rehearsal: Rehearsal | None = None

    @classmethod
    def of(cls, facts: DomainFacts) -> Move:
        """Decide what to do with a domain: a plan, or the result that it already has."""
        decision = decide(facts)
        found = () if decision.current else decision.reasons(Mode.TRANSFER)
        return cls(facts, None if decision.verdict else decision.plan, found, decision.verdict)

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
        """The domain's own part failed; the error says how the guest is now."""
        results = {"rolled-back": Result.ROLLED_BACK, "unsettled": Result.UNKNOWN}
        finding = Finding(error.code, Severity.BLOCKER, error.message, error.hint or "")
        self.end(results.get(error.code, Result.FAILED), finding)

    def recovered(self, outcome: Recovered) -> None:
        """Recovery gave the guest to one of the two after a failure that left it open."""
        results = {Settled.FORWARD: None, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}
        self.result = results.get(outcome.settled, Result.ROLLED_BACK)
        self.moved = outcome.settled is Settled.FORWARD
        severity = Severity.WARNING if self.moved else Severity.BLOCKER
        failures = (
            replace(finding, severity=severity, remedy="") for finding in self.found if finding.code == "unsettled"
        )
        others = (finding for finding in self.found if finding.code != "unsettled")
        settled = Finding("recovered", severity, f"settled: {outcome.text}", "look at the guest")
        self.found = (*others, *failures, settled)

    def stays_unsettled(self, outcome: Recovered) -> None:
        """Nor could recovery settle it: what it says of the guest and of libvirt's record is part of the result."""
        self.end(Result.UNKNOWN, Finding("held", Severity.BLOCKER, outcome.text, f"virtcpr recover {self.facts.name}"))

    def turn_back(self, reason: str, hint: str | None = None) -> None:
        """It won't be moved after all; new QEMU, if there was one, is gone and the guest never noticed."""
        pid = self.facts.process.pid if self.facts.process else 0
        self.fail(RolledBack(f"{reason}; the guest runs on in old QEMU (process {pid})", hint=hint or "try again"))

    def journal(self, daemon: Mapping[str, object]) -> Journal:
        """The journal of the plan; nothing is written yet.  ``daemon`` is how libvirt's daemon is started again."""
        assert self.plan is not None
        return Journal(
            Entry(
                uuid=self.plan.uuid,
                state=State.PLANNED,
                guest=self.plan.guest,
                old_pid=self.plan.pid,
                old_started=self.plan.started,
                argv=self.plan.argv,
                daemon=daemon,
            )
        )

    @property
    def source(self) -> Side | None:
        if self.facts.process is None or self.facts.qemu is None:
            return None
        return Side(self.facts.qemu.version, self.facts.process.pid)

    def target(self, pid: int | None = None) -> Side | None:
        return None if self.facts.emulator.problem else Side(self.facts.emulator.version, pid)

    def outlook(self) -> Outlook:
        outlook = Outlook(self.facts.name, self.facts.uuid, self.source, self.target(), self.result, self.found)
        if self.plan is None:
            return outlook
        outlook = replace(outlook, rehearsal=self.rehearsal)
        opened = (f"{fd.path}, opened anew" for fd in self.plan.opened)
        return replace(
            outlook,
            mode=self.plan.mode,
            emulator=self.plan.emulator,
            steps=tuple(PlannedStep(s.name, s.describe, s.side.value, s.undo) for s in self.plan.steps),
            carried=(*(fd.what for fd in self.plan.carried), *opened),
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
            pause_ms=over.pause_ms if over and moved else None,
            phases=(*self.phases, *(over.phases if over else ())),
            findings=self.found,
        )
