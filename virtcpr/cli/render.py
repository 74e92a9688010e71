"""The one renderer: reports in, text for stdout out.  JSON is described in ``schema-1.json``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from functools import singledispatch
from typing import TYPE_CHECKING, Any

from virtcpr.cli.failure import Failure
from virtcpr.cli.session import Output, Session
from virtcpr.model import DomainReport, DomainRow, Finding, ListReport, Outlook, Side, UpgradeReport

if TYPE_CHECKING:
    from virtcpr.cli.table import Table

SCHEMA = 1


def report(session: Session, outcome: ListReport | UpgradeReport) -> str:
    """What a command writes to stdout, without the last line end."""
    if session.output is Output.JSON:
        return _dump(document(outcome))
    from virtcpr.cli import table

    if isinstance(outcome, ListReport):
        return _draw(session, table.listing(outcome, findings=session.verbosity > 0))
    return _draw(session, table.upgrade(outcome))


def outlook_table(session: Session, outlooks: Sequence[Outlook]) -> str:
    """What ``upgrade`` is about to do, for the question on stderr."""
    from virtcpr.cli import table

    return table.draw(table.outlook(outlooks), color=session.colors(sys.stderr), width=table.width(sys.stderr))


def failure(command: str | None, failed: Failure) -> str:
    """The JSON object of a command that failed as a whole."""
    blackout: dict[str, Any] = {"blackout_ms": None} if command == "upgrade" else {}
    error = {"code": failed.code, "message": failed.message, "hint": failed.hint}
    return _dump({**_envelope(command, failed.exit_code, []), **blackout, "error": error})


@singledispatch
def document(outcome: object) -> dict[str, Any]:
    """A report as the JSON object of its command."""
    raise TypeError(f"no JSON for {type(outcome).__name__}")


@document.register
def _(outcome: ListReport) -> dict[str, Any]:
    return _envelope("list", outcome.exit_code, [_row(row) for row in outcome.domains])


@document.register
def _(outcome: UpgradeReport) -> dict[str, Any]:
    notes = {"notes": list(outcome.notes)} if outcome.notes else {}
    domains = [_domain(domain) for domain in outcome.domains]
    return {
        **_envelope("upgrade", outcome.exit_code, domains),
        "blackout_ms": _ms(outcome.blackout_ms),
        **notes,
    }


def _envelope(command: str | None, exit_code: int, domains: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": SCHEMA, "command": command, "exit_code": int(exit_code), "domains": domains}


def _domain(domain: DomainReport) -> dict[str, Any]:
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "result": domain.result.value,
        "mode": domain.mode.value if domain.mode else None,
        "from": _side(domain.source),
        "to": _side(domain.target),
        "pause_ms": _ms(domain.pause_ms),
        "phases": [{"name": phase.name, "ms": _ms(phase.ms)} for phase in domain.phases],
        "findings": [_finding(finding) for finding in domain.findings],
    }


def _row(row: DomainRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "uuid": row.uuid,
        "id": row.id,
        "state": row.state,
        "running": row.running,
        "installed": row.installed,
        "outdated": row.outdated,
        "ready": row.ready.value if row.ready else None,
        "findings": [_finding(finding) for finding in row.findings],
    }


def _side(side: Side | None) -> dict[str, Any] | None:
    return {"version": side.version, "pid": side.pid} if side else None


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code,
        "severity": finding.severity.value,
        "message": finding.message,
        "remedy": finding.remedy,
    }


def _ms(ms: float | None) -> float | None:
    return None if ms is None else round(ms, 3)


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2)


def _draw(session: Session, content: Table) -> str:
    from virtcpr.cli import table

    return table.draw(content, color=session.colors(sys.stdout), width=table.width(sys.stdout))
