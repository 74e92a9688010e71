"""Write down a move that was tried, whoever asked for it: in the history, and in the system's journal."""

from __future__ import annotations

from virtcpr.actions.records import history, system_journal
from virtcpr.actions.records.batch import Batch, current
from virtcpr.model import DomainReport, Finding, Mode, Recovered, Result, Settled, Severity, Side

UNTRIED = (Result.CURRENT, Result.BLOCKED)
RESULTS = {Settled.FORWARD: Result.UPGRADED, Settled.BACK: Result.ROLLED_BACK, Settled.LOST: Result.FAILED}


def note(report: DomainReport, batch: Batch | None = None) -> None:
    """Note a domain that something was tried with; any other is left out.  A failure is only logged.

    ``batch`` None is that of this process.
    """
    if report.result not in UNTRIED:
        batch = batch or current()
        history.append(report, batch.number, batch.undoes, batch.why.get(report.uuid, ""))
        system_journal.send_domain(report)


def note_settled(
    outcome: Recovered, mode: Mode, source: Side | None, target: Side | None, batch: Batch | None = None
) -> None:
    """Note an interrupted move that was settled afterwards, with the batch that it belonged to."""
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
            source=source,
            target=target,
            findings=(Finding("recovered", severity, f"settled after an interruption: {outcome.text}", ""),),
        ),
        batch,
    )
