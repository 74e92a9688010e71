"""What to do with a domain: the findings of all rules, and the plan if nothing blocks it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import ParseError
from virtcpr.model import Finding, Mode, Result, Severity
from virtcpr.plan.findings.rule import apply, blocks, concerning
from virtcpr.plan.findings.table import NOT_YET_RUN, PARKED, RULES, UNREADABLE
from virtcpr.plan.transfer.parked import untried
from virtcpr.plan.transfer.resources import Unplannable
from virtcpr.plan.transfer.swap import Plan, plan


@dataclass(frozen=True)
class Decision:
    """The base of ``check``, ``plan`` and ``upgrade``.  ``findings`` are for all modes.

    ``plan`` is for ``mode``: transfer or live.  ``force``: a domain that runs the installed build is moved, too.
    """

    facts: DomainFacts
    findings: tuple[Finding, ...]
    plan: Plan | None
    force: bool = False
    mode: Mode = Mode.TRANSFER

    def blocked(self, mode: Mode) -> bool:
        return blocks(self.findings, mode)

    @property
    def current(self) -> bool:
        """Whether there is nothing to do: it runs the installed build already."""
        return self.facts.current and not self.force

    @property
    def verdict(self) -> Result | None:
        """The result of ``upgrade`` if it doesn't try; None: it will move the domain."""
        if self.current:
            return Result.CURRENT
        return Result.BLOCKED if self.plan is None else None

    def reasons(self, mode: Mode) -> tuple[Finding, ...]:
        """The blockers and warnings of this mode."""
        return tuple(f for f in concerning(self.findings, mode) if f.severity is not Severity.INFO)


def decide(
    facts: DomainFacts,
    *,
    mode: Mode = Mode.TRANSFER,
    force: bool = False,
    trying: bool = False,
    parked: bool = False,
) -> Decision:
    """Apply every rule; plan this mode, transfer or live, if none blocks it.  Pure.

    ``parked``: mode transfer, with old QEMU ended before new makes a device.
    ``trying``: what was never run is no reason to leave the domain alone.  A domain that can't be parsed gets a
    finding; other domains are still judged.
    """
    try:
        findings = tuple(_tried(finding) if trying else finding for finding in apply(RULES, facts))
    except ParseError as error:
        return Decision(facts, (UNREADABLE.finding(facts.name, {"problem": error.message}),), None, force, mode)
    if facts.process is None or blocks(findings, mode):
        return Decision(facts, findings, None, force, mode)
    try:
        planned = plan(facts, mode, parked=parked)
        if parked and (what := ", ".join(untried(planned, facts))):
            return Decision(facts, (*findings, PARKED.finding(facts.name, {"what": what})), None, force, mode)
        return Decision(facts, findings, planned, force, mode)
    except Unplannable as problem:
        return Decision(facts, (*findings, problem.finding(facts.name)), None, force, mode)


def _tried(finding: Finding) -> Finding:
    return replace(finding, severity=Severity.WARNING) if finding.code == NOT_YET_RUN else finding
