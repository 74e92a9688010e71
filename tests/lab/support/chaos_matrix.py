"""What the chaos tests saw, as a table: the moment, what was killed and who settled it, who had the guest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median

from tests.lab.support import chaos_moments_parked, chaos_moments_reboot
from tests.lab.support.chaos_moments import AGAIN, LOST, MOMENTS, NEW, OLD, RESET

OUTCOMES = (OLD, NEW, AGAIN, RESET, LOST)
Told = tuple[list[tuple[tuple[str, str], str]], list[float], list[float], list[str]]


@dataclass
class Matrix:
    """``cells``: (moment, column) → outcome.  ``answers``: seconds from virtcpr's death until the daemon answered, the
    guardian alone at work.  ``both``: milliseconds of CPU time that old's vCPUs took while new's ran the guest."""

    rows: tuple[str, ...] = MOMENTS
    cells: dict[tuple[str, str], str] = field(default_factory=dict)
    answers: list[float] = field(default_factory=list)
    both: list[float] = field(default_factory=list)
    legend: tuple[str, ...] = (
        "old, new: who runs the guest; reset: old, from the beginning; lost: nobody had all of the guest",
        "start: somebody starts libvirt's daemon in the blackout; boots: the host's power failed",
    )
    lines: list[str] = field(default_factory=list)  # what other tests of chaos have to say

    def add(self, moment: str, column: str, outcome: str) -> None:
        self.cells[moment, column] = outcome

    def told(self) -> Told:
        """What was seen, for another process."""
        return list(self.cells.items()), self.answers, self.both, self.lines

    def hear(self, told: Told) -> None:
        """Add what was seen in another process."""
        cells, answers, both, lines = told
        self.cells |= {(moment, column): outcome for (moment, column), outcome in cells}
        self.answers += answers
        self.both += both
        self.lines += lines

    def text(self) -> Iterator[str]:
        if self.cells:
            yield from self._table()
            counts = Counter(self.cells.values())
            parts = ", ".join(f"{counts[outcome]} {outcome}" for outcome in (*OUTCOMES, *(counts.keys() - OUTCOMES)))
            yield f"{len(self.cells)} cases: {parts}"
            yield from self.legend
        if self.answers:
            low, middle, high = min(self.answers), median(self.answers), max(self.answers)
            yield (
                f"settled by the guardian, the daemon answers after virtcpr's death: {low:.1f} s at least, "
                f"{middle:.1f} s median, {high:.1f} s at most ({len(self.answers)} times)"
            )
        if self.both:
            yield f"while new's vCPUs ran the guest, old's took {max(self.both):.1f} ms of CPU time at most"
        yield from self.lines

    def _table(self) -> Iterator[str]:
        columns = list(dict.fromkeys(column for _, column in self.cells))
        heads = [column.split(" ") for column in columns]
        widths = [
            max(map(len, (*head, *(outcome for (_, of), outcome in self.cells.items() if of == column))))
            for column, head in zip(columns, heads, strict=True)
        ]
        room = max(map(len, self.rows)) + 2
        for row in range(max(map(len, heads))):
            words = (head[row] if row < len(head) else "" for head in heads)
            yield " " * room + "  ".join(word.ljust(width) for word, width in zip(words, widths, strict=True))
        for moment in self.rows:
            cells = [self.cells.get((moment, column), "·") for column in columns]
            if set(cells) != {"·"}:
                yield moment.ljust(room) + "  ".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)).rstrip()


SEEN = Matrix()
PARKED = Matrix(
    chaos_moments_parked.MOMENTS,
    legend=(
        "old, new: who runs the guest; again: old's build, started again; reset: the same, from the beginning",
        "lost: nobody had all of the guest, or what was kept of it didn't fit its RAM any more",
    ),
)
REBOOTS = Matrix(
    chaos_moments_reboot.NAMES,
    legend=("old, new: who runs the guest; waits: it waited in its file, and restore let it go on; lost: by nature",),
)
