"""Renders reports as text for stdout: JSON or a table."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from virtcpr.cli.output import json_report
from virtcpr.cli.session import Output, Session
from virtcpr.model import (
    AutoReport,
    BuildsReport,
    CertifyReport,
    CheckReport,
    ExitCode,
    HistoryReport,
    HookReport,
    HostReport,
    KeptDomain,
    ListReport,
    Outlook,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    RecoverReport,
    Report,
    RestoreReport,
    SaveReport,
    UpgradeReport,
)

if TYPE_CHECKING:
    from virtcpr.cli.output.layout import Table

MAIL_WIDTH = 100


def report(session: Session, outcome: Report) -> str:
    """What a command writes to stdout, without the last line end."""
    if session.output is Output.JSON:
        return json_report.dump(outcome)
    from virtcpr.cli.output import certified, keeping, tables

    match outcome:
        case ListReport():
            return _draw(session, tables.listing(outcome, findings=session.verbosity > 0))
        case CheckReport():
            return _draw(session, tables.check(outcome, everything=session.verbosity > 0))
        case PlanReport():
            return _draw(session, tables.plan(outcome))
        case CertifyReport():
            return _draw(session, certified.certify(outcome))
        case PrepareReport():
            if outcome.dry_run:
                return changes(session, outcome.domains, sys.stdout)
            drawn = _draw(session, tables.prepare(outcome))
            return drawn if outcome.moves is None else f"{drawn}\n{_draw(session, tables.upgrade(outcome.moves))}"
        case RecoverReport():
            return _draw(session, tables.recover(outcome))
        case HookReport():
            return _draw(session, tables.hooks(outcome))
        case UpgradeReport():
            return _draw(session, tables.upgrade(outcome))
        case AutoReport():
            return _draw(session, tables.auto(outcome))
        case HistoryReport():
            return _draw(session, tables.history(outcome))
        case BuildsReport():
            return _draw(session, tables.builds(outcome))
        case HostReport():
            return _draw(session, tables.host(outcome, fixes=session.verbosity > 0))
        case SaveReport():
            return _draw(session, keeping.save(outcome))
        case RestoreReport():
            return _draw(session, keeping.restore(outcome))


def plain(outcome: AutoReport) -> str:
    """The table of a report for a mail."""
    from virtcpr.cli.output import layout, tables

    return layout.draw(tables.auto(outcome), color=False, width=MAIL_WIDTH)


def outlook_table(session: Session, outlooks: Sequence[Outlook]) -> str:
    """What ``upgrade`` is about to do, for the question on stderr."""
    from virtcpr.cli.output import layout, tables

    return layout.draw(tables.outlook(outlooks), color=session.colors(sys.stderr), width=layout.width(sys.stderr))


def kept_table(session: Session, outlooks: Sequence[KeptDomain]) -> str:
    """What ``save`` or ``restore`` is about to do, for the question on stderr."""
    from virtcpr.cli.output import keeping, layout

    return layout.draw(keeping.outlook(outlooks), color=session.colors(sys.stderr), width=layout.width(sys.stderr))


def changes(session: Session, domains: Sequence[PreparedDomain], stream: TextIO) -> str:
    """What ``prepare`` is about to change, as unified diffs, and findings."""
    from virtcpr.cli.output import diff, layout, tables

    color = session.colors(stream)
    shown = [diff.draw(domain.diff, color=color) for domain in domains if domain.diff]
    summary = tables.prepare(PrepareReport(tuple(domains), ExitCode.DONE, dry_run=True))
    return "\n".join([*shown, layout.draw(summary, color=color, width=layout.width(stream))])


def _draw(session: Session, content: Table) -> str:
    from virtcpr.cli.output import layout

    return layout.draw(content, color=session.colors(sys.stdout), width=layout.width(sys.stdout))
