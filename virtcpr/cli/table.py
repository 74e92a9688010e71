"""Tables for people: a row a domain, what was found under it, a summary at the end.

Columns are laid out here rather than by rich's Table, whose cells can't hold what spans the columns.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from virtcpr.cli.text import count, milliseconds, visible, visible_lines
from virtcpr.model import (
    DomainReport,
    DomainRow,
    Finding,
    ListReport,
    Outlook,
    Result,
    Severity,
    Side,
    UpgradeReport,
)

RESULT_STYLES = {
    Result.UPGRADED: "green",
    Result.CURRENT: "dim",
    Result.BLOCKED: "yellow",
    Result.ROLLED_BACK: "yellow",
    Result.FAILED: "red",
    Result.UNKNOWN: "bold red",
}
_SEVERITY_STYLES = {Severity.BLOCKER: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_NOTHING = "-"
_GAP = 2
_UNLIMITED = 100_000


@dataclass(frozen=True)
class Cell:
    """What a cell says, what it may say where there is little room, and its style."""

    text: str
    short: str = ""
    style: str = ""


@dataclass(frozen=True)
class Row:
    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class Table:
    """A header, rows, and lines below them; ``empty`` stands in for header and rows where there are none."""

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    empty: str
    below: tuple[str, ...] = field(default=())


def listing(report: ListReport, *, findings: bool) -> Table:
    """``list``; with ``findings`` the reasons stand under each domain."""
    header = ("DOMAIN", "ID", "STATE", "RUNNING QEMU", "INSTALLED QEMU", "OUTDATED", "READY FOR")
    return Table(header, tuple(_list_row(row, findings) for row in report.domains), "no domains")


def upgrade(report: UpgradeReport) -> Table:
    """``upgrade``, after it."""
    rows = tuple(
        Row(
            (Cell(visible(domain.name)), _result(domain.result), _move(domain), _pause(domain)),
            domain.findings,
        )
        for domain in report.domains
    )
    notes = tuple(line for note in report.notes for line in visible_lines(note))
    below = (_summary(report), *notes) if rows else notes
    return Table(("DOMAIN", "RESULT", "QEMU", "PAUSE"), rows, "" if notes else "no running domains", below)


def outlook(outlooks: Sequence[Outlook]) -> Table:
    """``upgrade``, before it."""
    rows = tuple(
        Row(
            (
                Cell(visible(one.name)),
                _result(one.verdict) if one.verdict else Cell("move", style="green"),
                _sides(one.source, one.target if one.moves else None),
            ),
            one.findings,
        )
        for one in outlooks
    )
    return Table(("DOMAIN", "ACTION", "QEMU"), rows, "no running domains")


def width(stream: TextIO) -> int:
    """Columns of ``stream``: the terminal's, or as many as it takes where it leads elsewhere."""
    if not stream.isatty():
        return _UNLIMITED
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def draw(table: Table, *, color: bool, width: int) -> str:
    """The table as text for a terminal or a file, without the last line end."""
    console = Console(
        file=io.StringIO(),
        force_terminal=color,
        color_system="standard" if color else None,
        no_color=not color,
        width=width,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )
    with console.capture() as capture:
        for part in _lay_out(table, width):
            # A row that is too long is the terminal's to wrap: nothing is lost.  Other text is wrapped here.
            console.print(part, soft_wrap=isinstance(part, Text))
    return "\n".join(line.rstrip() for line in capture.get().split("\n")).strip("\n")


def _lay_out(table: Table, width: int) -> Iterator[Text | Padding]:
    """Rows as Text, what stands under them as Padding."""
    if table.rows:
        texts = _texts(table, width)
        widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
        yield _line([(text, "bold") for text in texts[0]], widths)
        for row, cells in zip(table.rows, texts[1:], strict=True):
            styles = (cell.style for cell in row.cells)
            yield _line(list(zip(cells, styles, strict=True)), widths)
            for finding in row.findings:
                yield from _finding(finding)
    elif table.empty:
        yield Text(table.empty)
    for line in table.below:
        yield Padding(Text(line), 0, expand=False)


def _texts(table: Table, width: int) -> list[tuple[str, ...]]:
    """Every cell's text, header first: the short form of all where the long one doesn't fit."""
    full = [table.header, *(tuple(cell.text for cell in row.cells) for row in table.rows)]
    room = sum(max(map(cell_len, column)) + _GAP for column in zip(*full, strict=True)) - _GAP
    if room <= width:
        return full
    return [table.header, *(tuple(cell.short or cell.text for cell in row.cells) for row in table.rows)]


def _line(cells: Sequence[tuple[str, str]], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for (text, style), room in zip(cells, widths, strict=True):
        line.append(text, style=style).append(" " * (room - cell_len(text) + _GAP))
    line.rstrip()
    return line


def _finding(finding: Finding) -> Iterator[Padding]:
    """``blocker CODE: MESSAGE``, and the remedy under it."""
    head = Text()
    head.append(finding.severity.value, style=_SEVERITY_STYLES[finding.severity])
    head.append(f" {visible(finding.code)}: ")
    head.append("\n".join(visible_lines(finding.message)))
    yield Padding(head, (0, 0, 0, 2), expand=False)
    if finding.remedy.strip():
        yield Padding(Text("\n".join(visible_lines(finding.remedy))), (0, 0, 0, 4), expand=False)


def _list_row(row: DomainRow, findings: bool) -> Row:
    outdated = {True: Cell("yes", style="yellow"), False: Cell("no"), None: Cell(_NOTHING)}[row.outdated]
    cells = (
        Cell(visible(row.name)),
        Cell(_NOTHING if row.id is None else str(row.id)),
        Cell(visible(row.state)),
        *_versions(row.running, row.installed),
        outdated,
        Cell(row.ready.value, style="green") if row.ready else Cell(_NOTHING),
    )
    return Row(cells, row.findings if findings else ())


def _result(result: Result) -> Cell:
    return Cell(result.value, style=RESULT_STYLES[result])


def _move(domain: DomainReport) -> Cell:
    """Where it went, or was to go; only where it is for a domain that nothing was tried on."""
    tried = domain.result not in (Result.CURRENT, Result.BLOCKED)
    return _sides(domain.source, domain.target if tried else None)


def _sides(source: Side | None, target: Side | None) -> Cell:
    """``FROM → TO``, or the one that is known."""
    versions = [side.version for side in (source, target) if side]
    if len(versions) < 2:
        return _versions(versions[0] if versions else None, None)[0]
    first, second = _versions(*versions)
    return Cell(f"{first.text} → {second.text}", f"{first.short} → {second.short}")


def _versions(first: str | None, second: str | None) -> tuple[Cell, Cell]:
    """Two versions; short without the package in brackets, unless it is what tells them apart."""
    shorts = [None if version is None else version.partition(" (")[0] for version in (first, second)]
    if first != second and shorts[0] == shorts[1]:
        shorts = [first, second]
    texts = [visible(version) if version else _NOTHING for version in (first, second, *shorts)]
    return Cell(texts[0], texts[2]), Cell(texts[1], texts[3])


def _pause(domain: DomainReport) -> Cell:
    return Cell(_NOTHING if domain.pause_ms is None else milliseconds(domain.pause_ms))


def _summary(report: UpgradeReport) -> str:
    """``2 domains: 1 upgraded, 1 blocked; blackout 812 ms``."""
    results = [domain.result for domain in report.domains]
    parts = ", ".join(f"{results.count(result)} {result.value}" for result in Result if result in results)
    blackout = "" if report.blackout_ms is None else f"; blackout {milliseconds(report.blackout_ms)}"
    return f"{count(len(results), 'domain')}: {parts}{blackout}"
