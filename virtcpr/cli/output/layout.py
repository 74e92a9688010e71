"""Draw tables for people: rows, findings and details under each row, lines at the end.

Columns are laid out here, not by rich's Table, whose cells can't span columns.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TextIO

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from virtcpr.cli.output.text import visible, visible_lines
from virtcpr.model import Finding, Mode, Severity

_SEVERITY_STYLES = {Severity.BLOCKER: "red", Severity.WARNING: "yellow", Severity.INFO: "dim"}
_GAP = 2
_UNLIMITED = 100_000
_NAMES, _SHORTEST_NAME = "DOMAIN", 16


@dataclass(frozen=True)
class Cell:
    """A cell's text, its short form for narrow terminals, and its style."""

    text: str
    short: str = ""
    style: str = ""


@dataclass(frozen=True)
class Row:
    """Cells; below them details, each a label and a text, and findings."""

    cells: tuple[Cell, ...]
    findings: tuple[Finding, ...] = ()
    details: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Table:
    """A header, rows, and lines below them; ``empty`` is shown instead if there are no rows.

    ``modes``: findings show their modes.
    """

    header: tuple[str, ...]
    rows: tuple[Row, ...]
    empty: str
    below: tuple[str, ...] = field(default=())
    modes: bool = False


def width(stream: TextIO) -> int:
    """Columns of ``stream``: those of its terminal, or no limit."""
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
            # The terminal wraps a row that is too long, so nothing is lost.  Other text is wrapped here.
            console.print(part, soft_wrap=isinstance(part, Text))
    return "\n".join(line.rstrip() for line in capture.get().split("\n")).strip("\n")


def _lay_out(table: Table, width: int) -> Iterator[Text | Padding]:
    """Rows as Text, lines under them as Padding."""
    if table.rows:
        texts = _texts(table, width)
        widths = [max(map(cell_len, column)) for column in zip(*texts, strict=True)]
        yield _line([(text, "bold") for text in texts[0]], widths)
        for row, cells in zip(table.rows, texts[1:], strict=True):
            styles = (cell.style for cell in row.cells)
            yield _line(list(zip(cells, styles, strict=True)), widths)
            yield from _details(row.details)
            for finding in row.findings:
                yield from _finding(finding, modes=table.modes)
    elif table.empty:
        yield Text(table.empty)
    for line in table.below:
        yield Padding(Text(line), 0, expand=False)


def _texts(table: Table, width: int) -> list[tuple[str, ...]]:
    """Every cell's text, header first; all short if the long texts don't fit, and long names cut if these don't."""
    full = [table.header, *(tuple(cell.text for cell in row.cells) for row in table.rows)]
    if _room(full) <= width:
        return full
    short = [table.header, *(tuple(cell.short or cell.text for cell in row.cells) for row in table.rows)]
    excess = _room(short) - width
    if excess <= 0 or _NAMES not in table.header:
        return short
    column = table.header.index(_NAMES)
    room = max(_SHORTEST_NAME, max(cell_len(cells[column]) for cells in short) - excess)
    return [(*cells[:column], _cut(cells[column], room), *cells[column + 1 :]) for cells in short]


def _room(rows: Sequence[tuple[str, ...]]) -> int:
    return sum(max(map(cell_len, column)) + _GAP for column in zip(*rows, strict=True)) - _GAP


def _cut(text: str, room: int) -> str:
    return text if cell_len(text) <= room else f"{set_cell_size(text, room - 1)}…"


def _line(cells: Sequence[tuple[str, str]], widths: Sequence[int]) -> Text:
    line = Text(no_wrap=True, overflow="ignore")
    for (text, style), room in zip(cells, widths, strict=True):
        line.append(text, style=style).append(" " * (room - cell_len(text) + _GAP))
    line.rstrip()
    return line


def _details(details: Sequence[tuple[str, str]]) -> Iterator[Padding]:
    """``LABEL  TEXT``, the texts in a column; a long one is wrapped in it."""
    room = max((cell_len(label) for label, _ in details), default=0) + _GAP
    for label, text in details:
        line = Grid.grid(padding=0)
        line.add_column(width=room)
        line.add_column()
        line.add_row(Text(label, style="dim"), Text("\n".join(visible_lines(text))))
        yield Padding(line, (0, 0, 0, 2), expand=False)


def _finding(finding: Finding, *, modes: bool) -> Iterator[Padding]:
    """``blocker CODE: MESSAGE``, and the remedy under it; with ``modes`` also its modes, if not all."""
    head = Text()
    head.append(finding.severity.value, style=_SEVERITY_STYLES[finding.severity])
    head.append(f" {visible(finding.code)}")
    if modes and len(finding.modes) < len(Mode):
        head.append(f" ({', '.join(mode.value for mode in finding.modes)})")
    head.append(": ")
    head.append("\n".join(visible_lines(finding.message)))
    yield Padding(head, (0, 0, 0, 2), expand=False)
    if finding.remedy.strip():
        yield Padding(Text("\n".join(visible_lines(finding.remedy))), (0, 0, 0, 4), expand=False)
