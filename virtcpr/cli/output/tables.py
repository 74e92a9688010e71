"""The table for each command's report: one row per domain, a summary at the end."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from virtcpr.cli.output import cells
from virtcpr.cli.output.cells import NOTHING
from virtcpr.cli.output.layout import Cell, Row, Table
from virtcpr.cli.output.text import count, local_time, milliseconds, size, visible
from virtcpr.model import (
    AVAILABLE,
    Action,
    AutoReport,
    Blackouts,
    BuildsReport,
    CheckReport,
    DomainReport,
    DomainRow,
    Finding,
    HistoryReport,
    HookReport,
    HostReport,
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
OFF = ("shut off", "saved")
CHANGED = (Readying.PREPARED, Readying.RESTORED)


def listing(report: ListReport, *, findings: bool) -> Table:
    """``list``; with ``findings`` the reasons stand under each domain."""
    header = ("DOMAIN", "ID", "STATE", "RUNNING QEMU", "INSTALLED QEMU", "OUTDATED", "PREPARED", "READY FOR")
    return Table(header, tuple(_list_row(row, findings) for row in report.domains), f"no domains{_of(report.uri)}")


def check(report: CheckReport, *, everything: bool) -> Table:
    """``check``; with ``everything`` also findings on modes that this version doesn't have."""
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
    asked = report.mode or Mode.TRANSFER
    ready = sum(asked in domain.ready for domain in report.domains)
    running = [domain for domain in report.domains if domain.state not in OFF]
    blocked = [domain for domain in running if asked not in domain.ready and report.mode is None]
    others = {
        text: number
        for mode, text in ((Mode.LIVE, "live, and for transfer after that"), (Mode.REBOOT, "reboot"))
        if (number := sum(mode in domain.ready for domain in blocked))
    }
    off = len(rows) - len(running)
    below = (
        f"{count(len(rows), 'domain')}: {ready} ready for {asked.value}, {len(rows) - ready - off} blocked"
        + (f" ({'; '.join(f'{number} ready for {text}' for text, number in others.items())})" if others else "")
        + (f", {off} not running" if off else ""),
        *(("from the XML alone: a running QEMU may have more findings",) if report.offline else ()),
        "in brackets: modes that this version of virtcpr doesn't have",
    )
    return Table(header, rows, f"no domains{_of(report.uri)}", below if rows else (), modes=True)


def _of(uri: str | None) -> str:
    return f" in {visible(uri)}" if uri else ""


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
        tuple(_prepared(domain, dry_run=report.dry_run) for domain in report.domains),
        "" if report.notes else "no domains",
        (*_next_step(report), *report.notes),
    )


def _prepared(domain: PreparedDomain, *, dry_run: bool) -> Row:
    result = f"would be {domain.result.value}" if dry_run and domain.result in CHANGED else domain.result.value
    details = (
        *(("changed", change) for change in domain.changes if domain.result is not Readying.FAILED),
        *(("left", text) for text in domain.kept),
        *((("backup", domain.backup),) if domain.backup else ()),
    )
    columns = (
        Cell(visible(domain.name)),
        Cell(result, style=READYING_STYLES[domain.result]),
        Cell(str(len(domain.changes))),
    )
    return Row(columns, domain.findings, details)


def _next_step(report: PrepareReport) -> tuple[str, ...]:
    running = [domain for domain in report.domains if domain.running and domain.result in CHANGED]
    if not running or report.dry_run or report.moves is not None:
        return ()
    return ("it takes effect when the domain is shut down and started",)


def plan(report: PlanReport) -> Table:
    """``plan``: what ``upgrade`` would do with each domain, and how."""
    rows = tuple(
        Row(
            (
                Cell(visible(domain.name)),
                _action(domain),
                cells.sides(domain.source, domain.target if domain.moves else None),
                Cell(domain.mode.value if domain.mode and domain.moves else NOTHING),
                Cell(
                    NOTHING
                    if domain.forecast_ms is None or not domain.moves
                    else f"about {milliseconds(domain.forecast_ms)}"
                ),
            ),
            domain.findings,
            _how(domain) if domain.moves else (),
        )
        for domain in report.domains
    )
    actions = ["to move" if domain.moves else str(domain.verdict and domain.verdict.value) for domain in report.domains]
    parts = ", ".join(f"{actions.count(action)} {action}" for action in dict.fromkeys(actions))
    below = (f"{count(len(rows), 'domain')}: {parts}{_away(report.blackouts)}",) if rows else ()
    empty = "" if report.notes else f"no running domains{_of(report.uri)}"
    return Table(("DOMAIN", "ACTION", "QEMU", "MODE", "PAUSE"), rows, empty, (*below, *report.notes))


def _away(forecast: Blackouts | None) -> str:
    if forecast is None:
        return ""
    times = "blackout" if forecast.times == 1 else f"{forecast.times} blackouts, each"
    return f"; {times} about {milliseconds(forecast.longest_ms)}"


def _action(domain: Outlook) -> Cell:
    return cells.result(domain.verdict) if domain.verdict else Cell("move", style="green")


def _how(domain: Outlook) -> tuple[tuple[str, str], ...]:
    """Details of a move.  ``‖`` is the point of no return: steps before it can be undone."""
    before = " → ".join(step.name for step in domain.steps if step.side == "before")
    after = " → ".join(step.name for step in domain.steps if step.side != "before")
    return (
        ("emulator", domain.emulator or ""),
        *((("rehearsal", domain.rehearsal.trial.value),) if domain.rehearsal else ()),
        ("steps", f"{before} ‖ {after}"),
        ("carried", ", ".join(domain.carried)),
        ("replayed", ", ".join(domain.replayed) or "nothing"),
    )


def recover(report: RecoverReport) -> Table:
    """``recover``: the state of both processes, and which of them owns the guest now."""
    rows = tuple(
        Row(
            (
                Cell(visible(domain.name) or domain.uuid),
                Cell(domain.settled.value, style=SETTLED_STYLES[domain.settled]),
                Cell(domain.state or NOTHING),
                Cell(domain.old or NOTHING),
                Cell(domain.new or NOTHING),
            ),
            details=(("", domain.text),),
        )
        for domain in report.domains
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
    order = tuple(result.value for result in Result)
    below = cells.below(results, order, report.notes, report.blackout_ms, report.blackouts)
    return Table(("DOMAIN", "RESULT", "QEMU", "PAUSE"), rows, "" if report.notes else "no running domains", below)


def auto(report: AutoReport) -> Table:
    """``auto``, after it; with ``dry_run`` before it."""
    rows = tuple(
        Row(
            (
                Cell(visible(domain.name)),
                cells.result(domain.action.result)
                if domain.action.result
                else Cell(domain.action.value, style=ACTION_STYLES[domain.action]),
                cells.sides(domain.source, None if domain.action in (Action.CURRENT, Action.LEFT) else domain.target),
                Cell(domain.mode.value if domain.mode else NOTHING),
                Cell(NOTHING if domain.pause_ms is None else milliseconds(domain.pause_ms)),
            ),
            domain.findings,
            (("why", domain.reason),) if domain.reason else (),
        )
        for domain in report.domains
    )
    actions = [domain.action.value for domain in report.domains]
    counted = tuple(action.value for action in Action if action is not Action.TOLD)
    below = cells.below(actions, counted, (report.reported, *report.notes), report.blackout_ms)
    return Table(
        ("DOMAIN", "ACTION", "QEMU", "MODE", "PAUSE"), rows, "" if report.notes else "no running domains", below
    )


def history(report: HistoryReport) -> Table:
    """``history``, times in the local time zone."""
    rows = tuple(
        Row(
            (
                Cell(NOTHING if entry.batch is None else str(entry.batch)),
                Cell(local_time(entry.time)),
                Cell(visible(entry.name)),
                cells.result(entry.result),
                Cell(entry.mode.value if entry.mode else NOTHING),
                *cells.versions(entry.source, entry.target),
                Cell(NOTHING if entry.pause_ms is None else milliseconds(entry.pause_ms)),
            ),
            details=(("why", entry.why),) if entry.why else (),
        )
        for entry in report.entries
    )
    return Table(
        ("BATCH", "TIME", "DOMAIN", "RESULT", "MODE", "FROM", "TO", "PAUSE"),
        rows,
        f"nothing was moved yet{_of(report.uri)}",
    )


def builds(report: BuildsReport) -> Table:
    """``builds``, times in the local time zone."""
    rows = tuple(
        Row(
            (
                cells.versions(one.version, None)[0],
                Cell(local_time(one.kept_at)),
                Cell(size(one.size)),
                Cell("runs" if one.runs else NOTHING),
                Cell(visible(one.program)),
            )
        )
        for one in report.builds
    )
    return Table(("QEMU", "KEPT", "SIZE", "PROCESSES", "PROGRAM"), rows, "no builds are kept", report.notes)


def host(report: HostReport, *, fixes: bool) -> Table:
    """``report``, times in the local time zone; with ``fixes`` each CVE by its name."""
    rows = tuple(
        Row(
            (
                cells.versions(one.version, None)[0],
                Cell(str(len(one.domains))),
                {True: Cell("yes", style="yellow"), False: Cell("no"), None: Cell(NOTHING)}[one.outdated],
                Cell(NOTHING if one.released is None else local_time(one.released).partition(" ")[0]),
                Cell(NOTHING if one.fixes is None else count(len(one.fixes), "CVE")),
            ),
            details=(("fixed since", ", ".join(one.fixes)),) if fixes and one.fixes else (),
        )
        for one in report.builds
    )
    moved = sum(entry.result is Result.UPGRADED for entry in report.entries)
    days = (datetime.fromisoformat(report.time) - datetime.fromisoformat(report.since)).days
    below = (
        f"{count(moved, 'guest')} moved in {days} days, {len(report.entries) - moved} not",
        *(f"a move of {visible(name)} was interrupted: run `virtcpr recover`" for name in report.unsettled),
    )
    header = ("QEMU", "GUESTS", "OUTDATED", "RELEASED", "FIXED SINCE")
    return Table(header, rows, f"no running domains{_of(report.uri)}", below)


def outlook(outlooks: Sequence[Outlook]) -> Table:
    """``upgrade``, before it."""
    rows = tuple(
        Row(
            (
                Cell(visible(domain.name)),
                Cell("move by reboot", style="yellow")
                if domain.moves and domain.mode is Mode.REBOOT
                else _action(domain),
                cells.sides(domain.source, domain.target if domain.moves else None),
            ),
            domain.findings,
        )
        for domain in outlooks
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
        {True: Cell("yes"), False: Cell("no"), None: Cell(NOTHING)}[row.prepared],
        Cell(row.ready.value, style="green") if row.ready else Cell(NOTHING),
    )
    return Row(columns, row.findings if findings else ())


def _move(domain: DomainReport) -> Cell:
    """The versions of a move that was tried; else the present version."""
    tried = domain.result not in (Result.CURRENT, Result.BLOCKED)
    return cells.sides(domain.source, domain.target if tried else None)


def _pause(domain: DomainReport) -> Cell:
    return Cell(NOTHING if domain.pause_ms is None else milliseconds(domain.pause_ms))
