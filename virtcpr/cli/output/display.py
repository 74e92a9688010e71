"""The live display on a terminal: rich's own progress, a row per domain, and one line for all of them.

It never needs more lines than the terminal has: domains that are being moved come first, those that failed next.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from virtcpr.cli.output.cells import RESULT_STYLES
from virtcpr.cli.output.keeping import KEEPING_STYLES
from virtcpr.cli.output.text import milliseconds, visible, visible_lines
from virtcpr.model import AWAY, BACK, Keeping, Result
from virtcpr.model import Progress as Event

WAITING = "waiting"
WELL = {Result.UPGRADED, Result.CURRENT, Keeping.SAVED, Keeping.RESTORED, Keeping.DISCARDED}
STATE_COLUMNS, PAUSE_COLUMNS = 13, 12
OTHER_LINES = 4  # below the domains: what isn't shown, the total, the host, the cursor


class _State(ProgressColumn):
    """The step that a domain is at, or its result."""

    def render(self, task: Task) -> Text:
        result = task.fields["result"]
        if result is None:
            return Text(f"{visible(task.fields['phase'])}…")
        return Text(result.value, style=(RESULT_STYLES | KEEPING_STYLES)[result])


class _Pause(ProgressColumn):
    def render(self, task: Task) -> Text:
        pause_ms = task.fields["pause_ms"]
        return Text("" if pause_ms is None else f"pause {milliseconds(pause_ms)}")


class _Why(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(" ".join(visible_lines(task.fields["text"])), style="dim")


class Display:
    """What is known of every domain, and how it is shown on ``console``."""

    def __init__(self, console: Console, domains: Sequence[str]) -> None:
        self.console = console
        room = max(8, console.width - STATE_COLUMNS - PAUSE_COLUMNS - 4)
        name = Column(no_wrap=True, overflow="ellipsis", max_width=room)
        self.domains = Progress(
            TextColumn("{task.description}", table_column=name, markup=False),
            _State(Column(no_wrap=True, min_width=STATE_COLUMNS)),
            _Pause(Column(no_wrap=True)),
            _Why(Column(no_wrap=True, overflow="ellipsis")),
            console=console,
        )
        self.total = Progress(
            TextColumn("{task.completed:.0f} of {task.total:.0f} domains", markup=False),
            TimeElapsedColumn(),
            console=console,
        )
        self.host = ""
        self.away: float | None = None  # since when libvirt's daemon is away, in seconds since 1970
        self._tasks = {domain: self._task(domain) for domain in domains}
        self._all = self.total.add_task("", total=len(domains))

    def _task(self, domain: str) -> Task:
        number = self.domains.add_task(visible(domain), total=None, phase=WAITING, result=None, pause_ms=None, text="")
        return next(task for task in self.domains.tasks if task.id == number)

    def hear(self, events: Sequence[Event]) -> None:
        """Take note of events; none is needed for the clocks to go on."""
        for event in events:
            if event.domain:
                self._hear(event)
            else:
                self.away = {AWAY: time.time(), BACK: None}.get(event.phase, self.away)
                self.host = "" if event.phase in (AWAY, BACK) else event.phase
        self._choose()
        done = sum(task.fields["result"] is not None for task in self._tasks.values())
        self.total.update(self._all, completed=done, total=len(self._tasks))

    def _hear(self, event: Event) -> None:
        task = self._tasks.get(event.domain)
        if task is None:  # `plan` didn't name it
            task = self._tasks[event.domain] = self._task(event.domain)
        fields = task.fields
        fields["phase"] = event.phase or fields["phase"]
        fields["result"] = event.result or fields["result"]
        fields["pause_ms"] = fields["pause_ms"] if event.pause_ms is None else event.pause_ms
        fields["text"] = event.text

    def _choose(self) -> None:
        """Show as many domains as fit; of the others there is a line."""
        ranked = sorted(self._tasks.values(), key=_rank)
        room = max(1, self.console.height - OTHER_LINES)
        shown = {task.id for task in ranked[:room]}
        for task in ranked:
            task.visible = task.id in shown

    def __rich__(self) -> RenderableType:
        return Group(*self._parts())

    def _parts(self) -> Iterator[RenderableType]:
        yield self.domains
        if hidden := [task for task in self._tasks.values() if not task.visible]:
            states = Counter(_word(task) for task in hidden)
            counts = ", ".join(f"{number} {word}" for word, number in states.items())
            yield _cut(f"… and {len(hidden)} more: {counts}")
        yield self.total
        if self.away is not None:
            since = time.strftime("%H:%M:%S", time.localtime(self.away))
            yield _cut(f"libvirt's daemon is away since {since} ({max(0, time.time() - self.away):.0f} s)")
        elif self.host:
            yield _cut(f"host: {visible(self.host)}…")


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


def _rank(task: Task) -> int:
    result = task.fields["result"]
    if result is None:
        return 2 if task.fields["phase"] == WAITING else 0
    return 3 if result in WELL else 1


def _word(task: Task) -> str:
    result = task.fields["result"]
    if result is not None:
        return str(result.value)
    return WAITING if task.fields["phase"] == WAITING else "at work"


@contextmanager
def live(
    stream: TextIO, domains: Sequence[str], *, color: bool, transient: bool
) -> Iterator[Callable[[Sequence[Event]], None]]:
    """The display on a terminal; yields what draws events.  If ``transient``, it vanishes at the end."""
    console = Console(file=stream, force_terminal=True, no_color=not color, highlight=False, markup=False, emoji=False)
    if not color:
        console._color_system = None
    display = Display(console, domains)
    display.hear(())

    def draw(events: Sequence[Event]) -> None:
        display.hear(events)
        shown.refresh()

    shown = Live(display, console=console, auto_refresh=False, transient=transient, redirect_stdout=False)
    with shown:
        yield draw
