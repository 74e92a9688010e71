"""The tables of ``save`` and ``restore``, before and after them."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.cli.output import cells
from virtcpr.cli.output.cells import NOTHING
from virtcpr.cli.output.layout import Cell, Row, Table
from virtcpr.cli.output.text import size, visible
from virtcpr.model import Keeping, KeptDomain, RestoreReport, SaveReport

KEEPING_STYLES = {
    Keeping.SAVED: "green",
    Keeping.RESTORED: "green",
    Keeping.DISCARDED: "yellow",
    Keeping.BLOCKED: "yellow",
    Keeping.ROLLED_BACK: "yellow",
    Keeping.WAITING: "yellow",
    Keeping.FAILED: "red",
    Keeping.UNKNOWN: "bold red",
}
KEEPING_ACTIONS = {Keeping.SAVED: "save", Keeping.RESTORED: "restore", Keeping.DISCARDED: "discard"}
KEPT = ("QEMU", "STATE SIZE", "RAM")


def save(report: SaveReport) -> Table:
    """``save``, after it."""
    return _kept(report.domains, report.notes, "no running domains")


def restore(report: RestoreReport) -> Table:
    """``restore``, after it."""
    return _kept(report.domains, report.notes, "no saved domains", report.blackout_ms)


def _kept(domains: Sequence[KeptDomain], notes: tuple[str, ...], empty: str, blackout_ms: float | None = None) -> Table:
    rows = tuple(Row(_kept_cells(domain, domain.result.value), domain.findings) for domain in domains)
    results = [domain.result.value for domain in domains]
    below = cells.below(results, tuple(result.value for result in Keeping), notes, blackout_ms)
    return Table(("DOMAIN", "RESULT", *KEPT), rows, "" if notes else empty, below)


def outlook(outlooks: Sequence[KeptDomain]) -> Table:
    """``save`` and ``restore``, before them; a saved domain also shows since when."""
    rows = tuple(
        Row(
            _kept_cells(domain, KEEPING_ACTIONS.get(domain.result, domain.result.value)),
            domain.findings,
            (("saved", domain.saved_at),) if domain.saved_at else (),
        )
        for domain in outlooks
    )
    return Table(("DOMAIN", "ACTION", *KEPT), rows, "")


def _kept_cells(domain: KeptDomain, word: str) -> tuple[Cell, ...]:
    return (
        Cell(visible(domain.name) or visible(domain.uuid)),
        Cell(word, style=KEEPING_STYLES[domain.result]),
        cells.versions(domain.qemu, None)[0],
        Cell(NOTHING if domain.size is None else size(domain.size)),
        Cell({None: NOTHING, True: "in place", False: "in the file"}[domain.in_place]),
    )
