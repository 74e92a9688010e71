"""The outcome of a domain, in either mode, and of a batch of domains: result, findings, exit code."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import RolledBack, VirtcprError
from virtcpr.model import (
    ExitCode,
    Finding,
    Keeping,
    KeptDomain,
    Outlook,
    Phase,
    PlannedStep,
    Readying,
    Recovered,
    Rehearsal,
    Result,
    Severity,
    Side,
    Trial,
)
from virtcpr.plan.findings.table import ONE_WAY, UNSURE, rehearsed
from virtcpr.plan.steps import Step

# The exit code of a batch by its results, the worst first.
CODES = (
    ("failed", ExitCode.FAILED),
    ("waiting", ExitCode.FAILED),
    ("rolled-back", ExitCode.ROLLED_BACK),
    ("blocked", ExitCode.BLOCKED),
)
DONE = {"upgraded", "saved", "restored", "discarded", "prepared"}


@dataclass
class Outcome:
    """One domain in a batch: its facts and its outcome.  ``result`` is None until it is decided."""

    facts: DomainFacts
    findings: tuple[Finding, ...] = ()
    result: Result | None = None
    phases: list[Phase] = field(default_factory=list)
    rehearsal: Rehearsal | None = None

    def rehearsed(self, rehearsal: Rehearsal, back: Rehearsal | None = None) -> None:
        """Record the rehearsal with the domain's twin: after a ``no-go`` the guest isn't touched.

        ``back``: that of the way back, if that was tried.
        """
        self.rehearsal = rehearsal
        if finding := rehearsed(self.facts, rehearsal):
            self.findings = (*self.findings, finding)
        if rehearsal.trial is Trial.NO_GO:
            self.result = Result.BLOCKED
        elif back is not None and back.trial is Trial.NO_GO:
            version = self.facts.qemu.version if self.facts.qemu else ""
            self.findings = (
                *self.findings,
                ONE_WAY.finding(self.facts.name, {"version": version, "words": back.words}),
            )

    def end(self, result: Result, *findings: Finding) -> None:
        """What became of the domain.  After a success the doubts before it are of no interest."""
        self.result = result
        kept = (one for one in self.findings if result is not Result.UPGRADED or one.code != UNSURE.code)
        self.findings = (*kept, *findings)

    def fail(self, error: VirtcprError) -> None:
        """The action failed for this domain; the error says how the guest is now."""
        results = {"rolled-back": Result.ROLLED_BACK, "unsettled": Result.UNKNOWN}
        self.end(results.get(error.code, Result.FAILED), failure(error))

    def turn_back(self, reason: str, hint: str | None = None) -> None:
        """Don't move the domain after all: its guest noticed nothing, and new QEMU, if there was one, is gone."""
        pid = self.facts.process.pid if self.facts.process else 0
        self.fail(RolledBack(f"{reason}; the guest runs on in old QEMU (process {pid})", hint=hint or "try again"))

    @property
    def source(self) -> Side | None:
        """The QEMU in which the domain ran when it was examined; None if unknown."""
        if self.facts.process is None or self.facts.qemu is None:
            return None
        return Side(self.facts.qemu.version, self.facts.process.pid, self.facts.process.build)

    def target(self, pid: int | None = None) -> Side | None:
        """The installed QEMU, with the process id of new QEMU if there is one; None if it can't be used."""
        emulator = self.facts.emulator
        return None if emulator.problem else Side(emulator.version, pid, emulator.build or None)

    def outlook(self) -> Outlook:
        """What will be done with the domain."""
        facts = self.facts
        return Outlook(facts.name, facts.uuid, self.source, self.target(), self.result, self.findings)


def planned_steps(steps: Iterable[Step]) -> tuple[PlannedStep, ...]:
    return tuple(PlannedStep(step.name, step.describe, step.side.value, step.undo) for step in steps)


def failure(error: VirtcprError) -> Finding:
    return Finding(error.code, Severity.BLOCKER, error.message, error.hint or "")


def failed(report: KeptDomain, error: VirtcprError) -> KeptDomain:
    """The report of a domain that could not be saved or restored; the error says how the guest is now."""
    results = {"rolled-back": Keeping.ROLLED_BACK, "unsettled": Keeping.UNKNOWN}
    findings = (*report.findings, failure(error))
    return replace(report, result=results.get(error.code, Keeping.FAILED), findings=findings)


def amended(findings: tuple[Finding, ...], recovered: Recovered, *, success: bool) -> tuple[Finding, ...]:
    """The findings of a domain that was settled after a failure; ``success``: the action was completed anyway."""
    severity = Severity.WARNING if success else Severity.BLOCKER
    others = (finding for finding in findings if finding.code != "unsettled")
    failures = (replace(finding, severity=severity, remedy="") for finding in findings if finding.code == "unsettled")
    return (*others, *failures, Finding("recovered", severity, f"settled: {recovered.text}", "check the guest"))


def exit_code(results: Iterable[Result | Keeping | Readying], parts: Iterable[ExitCode] = ()) -> ExitCode:
    """The exit code of a batch: its worst result, or ``SOME`` if some of its domains were done.

    ``parts``: the codes of what it was made of.  One may be unknown whose domains aren't: libvirt's daemon is away.
    """
    words = {result.value for result in results}
    if "unknown" in words or ExitCode.UNKNOWN in parts:
        return ExitCode.UNKNOWN
    code = next((code for word, code in CODES if word in words), ExitCode.DONE)
    return ExitCode.SOME if code is not ExitCode.DONE and words & DONE else code
