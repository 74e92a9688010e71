"""Which table shows what a command ends with: a row a domain, a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.cli.output import cells
from virtcpr.cli.output.cells import NOTHING
from virtcpr.cli.output.layout import Cell, Row, Table
from virtcpr.cli.output.text import count, local_time, milliseconds, visible
from virtcpr.model import (
    AVAILABLE,
    Action,
    AutoReport,
    CheckReport,
    DomainReport,
    DomainRow,
    Finding,
    HistoryReport,
    HookReport,
    ListReport,
    Mode,
    Outlook,
    PlanReport,
    PreparedDomain,
    PrepareReport,
    Readying,
    RecoverReport,
    Result,
    Settled,
    UpgradeReport,
)

ACTION_STYLES = {
    Action.TOLD: "yellow",
    Action.WAITING: "yellow",
    Action.LEFT: "dim",
    Action.MOVE: "green",
}
READYING_STYLES = {
    Readying.PREPARED: "green",
    Readying.RESTORED: "green",
    Readying.UNCHANGED: "dim",
    Readying.BLOCKED: "yellow",
    Readying.FAILED: "red",
}
SETTLED_STYLES = {
    Settled.FORWARD: "green",
    Settled.BACK: "green",
    Settled.NOTHING: "dim",
    Settled.LOST: "red",
    Settled.UNKNOWN: "bold red",
    Settled.WAITING: "yellow",
    Settled.PENDING: "yellow",
}
CHANGED = (Readying.PREPARED, Readying.RESTORED)


def listing(report: ListReport, *, findings: bool) -> Table:
    """``list``; with ``findings`` the reasons stand under each domain."""
    header = ("DOMAIN", "ID", "STATE", "RUNNING QEMU", "INSTALLED QEMU", "OUTDATED", "READY FOR")
    return Table(header, tuple(_list_row(row, findings) for row in report.domains), "no domains")


def check(report: CheckReport, *, everything: bool) -> Table:
    """``check``; with ``everything`` also what is about modes that this version doesn't have."""
    header = ("DOMAIN", "STATE", "QEMU", *(mode.value.upper() for mode in Mode))
    wanted = (report.mode,) if report.mode else AVAILABLE
    rows = tuple(
        Row(
            (
                Cell(visible(domain.name)),
                Cell(visible(domain.state) or NOTHING),
                cells.versions(domain.running, None)[0],
                *(_readiness(mode, mode in domain.ready) for mode in Mode),
            ),
            domain.findings if everything else _about(domain.findings, wanted),
        )
        for domain in report.domains
    )
    ready = sum(bool(set(wanted) & set(domain.ready)) for domain in report.domains)
    below = (
        f"{count(len(rows), 'domain')}: {ready} ready for {' or '.join(mode.value for mode in wanted)}, "
        f"{len(rows) - ready} blocked",
        *(("told from the XML alone: what a running QEMU would say isn't known",) if report.offline else ()),
        "in brackets: modes that this version of virtcpr doesn't have",
    )
    return Table(header, rows, "no running domains", below if rows else (), modes=True)


def _readiness(mode: Mode, ready: bool) -> Cell:
    text = "ready" if ready else "blocked"
    if mode in AVAILABLE:
        return Cell(text, style="green" if ready else "red")
    return Cell(f"({text})", style="dim")


def _about(findings: tuple[Finding, ...], modes: Sequence[Mode]) -> tuple[Finding, ...]:
    return tuple(finding for finding in findings if set(finding.modes) & set(modes))


def prepare(report: PrepareReport) -> Table:
    """``prepare``, after it; with ``dry_run`` before it."""
    return Table(
        ("DOMAIN", "RESULT", "CHANGES"),
        tuple(_prepared(one, dry_run=report.dry_run) for one in report.domains),
        "" if report.notes else "no running domains",
        (*_next_step(report), *report.notes),
    )


def _prepared(one: PreparedDomain, *, dry_run: bool) -> Row:
    result = f"would be {one.result.value}" if dry_run and one.result in CHANGED else one.result.value
    details = (
        *(("changed", change) for change in one.changes if one.result is not Readying.FAILED),
        *(("left", text) for text in one.kept),
        *((("backup", one.backup),) if one.backup else ()),
    )
    columns = (Cell(visible(one.name)), Cell(result, style=READYING_STYLES[one.result]), Cell(str(len(one.changes))))
    return Row(columns, one.findings, details)


def _next_step(report: PrepareReport) -> tuple[str, ...]:
    running = [one for one in report.domains if one.running and one.result in CHANGED]
    if not running or report.dry_run:
        return ()
    return ("it takes effect when the domain is shut down and started",)


def plan(report: PlanReport) -> Table:
    """``plan``: what ``upgrade`` would do with each domain, and how."""
    rows = tuple(
        Row(
            (
                Cell(visible(one.name)),
                _action(one),
                cells.sides(one.source, one.target if one.moves else None),
                Cell(one.mode.value if one.mode and one.moves else NOTHING),
                Cell(NOTHING if one.forecast_ms is None or not one.moves else f"about {milliseconds(one.forecast_ms)}"),
            ),
            one.findings,
            _how(one) if one.moves else (),
        )
        for one in report.domains
    )
    actions = ["to move" if one.moves else str(one.verdict and one.verdict.value) for one in report.domains]
    parts = ", ".join(f"{actions.count(action)} {action}" for action in dict.fromkeys(actions))
    below = (f"{count(len(rows), 'domain')}: {parts}",) if rows else ()
    return Table(("DOMAIN", "ACTION", "QEMU", "MODE", "PAUSE"), rows, "no running domains", below)


def _action(one: Outlook) -> Cell:
    return cells.result(one.verdict) if one.verdict else Cell("move", style="green")


def _how(one: Outlook) -> tuple[tuple[str, str], ...]:
    """Details of a move.  The sign stands for the point of no return: what is left of it can be undone."""
    before = " → ".join(step.name for step in one.steps if step.side == "before")
    after = " → ".join(step.name for step in one.steps if step.side != "before")
    return (
        ("emulator", one.emulator or ""),
        *((("rehearsal", one.rehearsal.trial.value),) if one.rehearsal else ()),
        ("steps", f"{before} ‖ {after}"),
        ("carried", ", ".join(one.carried)),
        ("replayed", ", ".join(one.replayed) or "nothing"),
    )


def recover(report: RecoverReport) -> Table:
    """``recover``: what was found, and who has the guest now."""
    rows = tuple(
        Row(
            (
                Cell(visible(one.name) or one.uuid),
                Cell(one.settled.value, style=SETTLED_STYLES[one.settled]),
                Cell(one.state or NOTHING),
                Cell(one.old or NOTHING),
                Cell(one.new or NOTHING),
            ),
            details=(("", one.text),),
        )
        for one in report.domains
    )
    return Table(("DOMAIN", "SETTLED", "JOURNAL", "OLD QEMU", "NEW QEMU"), rows, "nothing was interrupted")


def hooks(report: HookReport) -> Table:
    rows = tuple(Row((Cell(hook.name), Cell(hook.state.value), Cell(hook.path))) for hook in report.hooks)
    return Table(("HOOK", "STATE", "PATH"), rows, "")


def upgrade(report: UpgradeReport) -> Table:
    """``upgrade``, after it."""
    rows = tuple(
        Row(
            (Cell(visible(domain.name)), cells.result(domain.result), _move(domain), _pause(domain)),
            domain.findings,
        )
        for domain in report.domains
    )
    results = [domain.result.value for domain in report.domains]
    below = cells.below(results, tuple(result.value for result in Result), report.notes, report.blackout_ms)
    return Table(("DOMAIN", "RESULT", "QEMU", "PAUSE"), rows, "" if report.notes else "no running domains", below)


def auto(report: AutoReport) -> Table:
    """``auto``, after it; with ``dry_run`` before it."""
    rows = tuple(
        Row(
            (
                Cell(visible(one.name)),
                cells.result(one.action.result)
                if one.action.result
                else Cell(one.action.value, style=ACTION_STYLES[one.action]),
                cells.sides(one.source, None if one.action in (Action.CURRENT, Action.LEFT) else one.target),
                Cell(one.mode.value if one.mode else NOTHING),
                Cell(NOTHING if one.pause_ms is None else milliseconds(one.pause_ms)),
            ),
            one.findings,
            (("why", one.reason),) if one.reason else (),
        )
        for one in report.domains
    )
    actions = [one.action.value for one in report.domains]
    below = cells.below(actions, tuple(action.value for action in Action), report.notes, report.blackout_ms)
    return Table(
        ("DOMAIN", "ACTION", "QEMU", "MODE", "PAUSE"), rows, "" if report.notes else "no running domains", below
    )


def history(report: HistoryReport) -> Table:
    """``history``, times in the local time zone."""
    rows = tuple(
        Row(
            (
                Cell(local_time(entry.time)),
                Cell(visible(entry.name)),
                cells.result(entry.result),
                Cell(entry.mode.value if entry.mode else NOTHING),
                *cells.versions(entry.source, entry.target),
                Cell(NOTHING if entry.pause_ms is None else milliseconds(entry.pause_ms)),
            )
        )
        for entry in report.entries
    )
    return Table(("TIME", "DOMAIN", "RESULT", "MODE", "FROM", "TO", "PAUSE"), rows, "nothing was moved yet")


def outlook(outlooks: Sequence[Outlook]) -> Table:
    """``upgrade``, before it."""
    rows = tuple(
        Row(
            (
                Cell(visible(one.name)),
                Cell("move by reboot", style="yellow") if one.moves and one.mode is Mode.REBOOT else _action(one),
                cells.sides(one.source, one.target if one.moves else None),
            ),
            one.findings,
        )
        for one in outlooks
    )
    return Table(("DOMAIN", "ACTION", "QEMU"), rows, "no running domains")


def _list_row(row: DomainRow, findings: bool) -> Row:
    outdated = {True: Cell("yes", style="yellow"), False: Cell("no"), None: Cell(NOTHING)}[row.outdated]
    columns = (
        Cell(visible(row.name)),
        Cell(NOTHING if row.id is None else str(row.id)),
        Cell(visible(row.state)),
        *cells.versions(row.running, row.installed),
        outdated,
        Cell(row.ready.value, style="green") if row.ready else Cell(NOTHING),
    )
    return Row(columns, row.findings if findings else ())


def _move(domain: DomainReport) -> Cell:
    """Where it went, or was to go; only where it is for a domain that nothing was tried on."""
    tried = domain.result not in (Result.CURRENT, Result.BLOCKED)
    return cells.sides(domain.source, domain.target if tried else None)


def _pause(domain: DomainReport) -> Cell:
    return Cell(NOTHING if domain.pause_ms is None else milliseconds(domain.pause_ms))
