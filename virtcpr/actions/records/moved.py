"""Write down a move that was tried, whoever asked for it: in the history, and in the system's journal."""

from __future__ import annotations

from virtcpr.actions.records import history, system_journal
from virtcpr.model import DomainReport, Finding, Mode, Recovered, Result, Settled, Severity, Side

UNTRIED = (Result.CURRENT, Result.BLOCKED)
RESULTS = {Settled.FORWARD: Result.UPGRADED, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}


def note(report: DomainReport) -> None:
    """Note a domain that something was tried with; any other is left out.  A failure is only logged."""
    if report.result not in UNTRIED:
        history.append(report)
        system_journal.send_domain(report)


def note_settled(outcome: Recovered, mode: Mode, source: str | None, target: str | None) -> None:
    """Note an interrupted move that was settled afterwards; ``source`` and ``target`` are versions of QEMU."""
    result = RESULTS.get(outcome.settled)
    if result is None:  # it waits, isn't settled yet, or was settled before
        return
    severity = Severity.WARNING if result is Result.UPGRADED else Severity.BLOCKER
    note(
        DomainReport(
            name=outcome.name,
            uuid=outcome.uuid,
            result=result,
            mode=mode,
            source=Side(source) if source else None,
            target=Side(target) if target else None,
            findings=(Finding("recovered", severity, f"settled after an interruption: {outcome.text}", ""),),
        )
    )
