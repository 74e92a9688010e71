"""Parts that several tables share: results, versions of QEMU, the line below."""

from __future__ import annotations

from virtcpr.cli.output.layout import Cell
from virtcpr.cli.output.text import count, milliseconds, visible, visible_lines
from virtcpr.model import Blackouts, Result, Side

RESULT_STYLES = {
    Result.UPGRADED: "green",
    Result.CURRENT: "dim",
    Result.BLOCKED: "yellow",
    Result.ROLLED_BACK: "yellow",
    Result.FAILED: "red",
    Result.UNKNOWN: "bold red",
}
NOTHING = "-"


def result(outcome: Result) -> Cell:
    return Cell(outcome.value, style=RESULT_STYLES[outcome])


def sides(source: Side | None, target: Side | None) -> Cell:
    """``FROM → TO``, or the version that is known."""
    known = [side.version for side in (source, target) if side]
    if len(known) < 2:
        return versions(known[0] if known else None, None)[0]
    first, second = versions(*known)
    return Cell(f"{first.text} → {second.text}", f"{first.short} → {second.short}")


def versions(first: str | None, second: str | None) -> tuple[Cell, Cell]:
    """Two versions; short without the package in brackets, unless they only differ there."""
    shorts = [None if version is None else version.partition(" (")[0] for version in (first, second)]
    if first != second and shorts[0] == shorts[1]:
        shorts = [first, second]
    texts = [visible(version) if version else NOTHING for version in (first, second, *shorts)]
    return Cell(texts[0], texts[2]), Cell(texts[1], texts[3])


def below(
    results: list[str],
    order: tuple[str, ...],
    notes: tuple[str, ...],
    blackout_ms: float | None,
    blackouts: Blackouts | None = None,
) -> tuple[str, ...]:
    """``2 domains: 1 upgraded, 1 blocked; blackout 812 ms``, and the notes.  Only results in ``order`` are counted."""
    lines = tuple(line for note in notes for line in visible_lines(note))
    parts = ", ".join(f"{results.count(word)} {word}" for word in order if word in results)
    if not parts:
        return lines
    blackout = "" if blackout_ms is None else f"; blackout {milliseconds(blackout_ms)}"
    if blackout and blackouts and blackouts.times > 1:
        blackout += f" in {blackouts.times} parts, {milliseconds(blackouts.longest_ms)} at most"
    return (f"{count(len(results), 'domain')}: {parts}{blackout}", *lines)
