"""The table of ``certify``: one row per shape of guest."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count as numbers

from virtcpr.cli.output import cells
from virtcpr.cli.output.cells import NOTHING
from virtcpr.cli.output.layout import Cell, Row, Table
from virtcpr.cli.output.text import count, visible
from virtcpr.model import Certified, CertifiedDomain, CertifyReport, Rehearsal, Side, Trial

STYLES = {
    Certified.GO: "green",
    Certified.NO_GO: "red",
    Certified.UNSURE: "yellow",
    Certified.BLOCKED: "yellow",
    Certified.CURRENT: "dim",
}
BACK_STYLES = {Trial.GO: "green", Trial.NO_GO: "red", Trial.UNSURE: "yellow"}


def certify(report: CertifyReport) -> Table:
    """Domains of the same shape and with the same result share a row, under the name of the first."""
    groups: dict[tuple[object, ...], list[CertifiedDomain]] = {}
    single = numbers()
    for domain in report.domains:
        alone = next(single) if domain.shape is None else None
        groups.setdefault((domain.shape, domain.result, domain.defined, alone), []).append(domain)
    return Table(
        ("DOMAIN", "MODE", "QEMU", "THERE", "BACK"),
        tuple(_row(alike) for alike in groups.values()),
        "" if report.notes else "no running domains",
        tuple(_below(report)),
    )


def _row(alike: list[CertifiedDomain]) -> Row:
    first = alike[0]
    others = (" (off)" if first.defined else "") + (f" +{len(alike) - 1}" if len(alike) > 1 else "")
    return Row(
        (
            Cell(f"{visible(first.name)}{others}"),
            Cell(first.mode.value if first.mode else NOTHING),
            _versions(first),
            Cell(first.result.value, style=STYLES[first.result]),
            Cell(first.back.trial.value, style=BACK_STYLES[first.back.trial]) if first.back else Cell(NOTHING),
        ),
        first.findings,
        tuple(_details(alike)),
    )


def _versions(domain: CertifiedDomain) -> Cell:
    target = None if domain.result is Certified.CURRENT else domain.candidate
    source, candidate = (Side(version) if version else None for version in (domain.running, target))
    return cells.sides(source, candidate)


def _details(alike: list[CertifiedDomain]) -> Iterator[tuple[str, str]]:
    if len(alike) > 1:
        yield "alike", ", ".join(domain.name for domain in alike[1:])
    yield from _words("there", alike[0].there)
    yield from _words("back", alike[0].back)


def _words(label: str, result: Rehearsal | None) -> Iterator[tuple[str, str]]:
    if result is not None and result.words:
        yield label, result.words


def _below(report: CertifyReport) -> Iterator[str]:
    if report.domains:
        results = [domain.result for domain in report.domains]
        parts = ", ".join(f"{results.count(one)} {one.value}" for one in Certified if one in results)
        yield f"{count(len(results), 'domain')}: {parts}"
    if report.packages:
        yield f"candidate: {', '.join(map(visible, report.packages))}"
    yield from map(visible, report.notes)
