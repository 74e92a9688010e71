"""Progress of an upgrade, a save or a restore: a line per domain on a terminal, a line per event elsewhere.

The swap must never wait for a terminal (Ctrl-S stops one, a pipe fills up), least of all while a guest is
paused.  So ``watch`` only queues events, and a thread draws them a tenth of a second later: by then a pause
is mostly over, and drawing doesn't slow it down.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from virtcpr.cli import log
from virtcpr.cli.output.text import milliseconds, visible, visible_lines
from virtcpr.cli.session import Session
from virtcpr.model import Keeping, Progress, Result, Watch

if TYPE_CHECKING:
    from rich.text import Text

LATE_SECONDS = 0.1
END_SECONDS = 5.0
HOST = "host"
Draw = Callable[[Sequence[Progress]], None]


@contextmanager
def watching(session: Session, domains: tuple[str, ...]) -> Iterator[Watch]:
    """Yield the function to call at every step.  It never blocks and never raises."""
    if session.verbosity < 0:
        yield _ignore
    elif session.terminal(sys.stderr) and not session.verbosity and domains:
        with _lines(session, domains) as draw, _drawing(draw) as watch:
            yield watch
    else:
        with _drawing(_print) as watch:
            yield watch


def _ignore(event: Progress) -> None:
    pass


@contextmanager
def _drawing(draw: Draw) -> Iterator[Watch]:
    """Hand events to ``draw`` in a thread, in batches; the rest is drawn before this returns.

    If the display fails, or doesn't end within END_SECONDS, only the display is given up.
    """
    events: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    ending = threading.Event()

    def work() -> None:
        more = True
        while more:
            batch = [events.get()]
            ending.wait(LATE_SECONDS)
            while not events.empty():
                batch.append(events.get())
            more = None not in batch
            try:
                draw([event for event in batch if event])
            except Exception:
                return

    thread = threading.Thread(target=work, name="virtcpr-display", daemon=True)
    thread.start()
    try:
        yield events.put
    finally:
        ending.set()
        events.put(None)
        thread.join(END_SECONDS)


def plain(event: Progress) -> str:
    """``DOMAIN: PHASE``, or ``DOMAIN: RESULT, pause 38 ms`` at its end."""
    parts = [event.result.value if event.result else event.phase]
    if event.pause_ms is not None:
        parts.append(f"pause {milliseconds(event.pause_ms)}")
    text = " ".join(visible_lines(event.text))
    headline = ", ".join(visible(part) for part in parts if part)
    return f"virtcpr: {visible(event.domain) or HOST}: " + ": ".join(part for part in (headline, text) if part)


def _print(events: Sequence[Progress]) -> None:
    for event in events:
        log.say(plain(event))


@dataclass
class Line:
    """The latest progress of one domain."""

    phase: str = "waiting"
    result: Result | Keeping | None = None
    pause_ms: float | None = None
    text: str = ""

    def hear(self, event: Progress) -> None:
        self.phase = event.phase or self.phase
        self.result = event.result or self.result
        self.pause_ms = self.pause_ms if event.pause_ms is None else event.pause_ms
        self.text = event.text


@dataclass
class Board:
    """All lines; a line for the host appears below the domains with its first event."""

    lines: dict[str, Line] = field(default_factory=dict)

    def hear(self, events: Sequence[Progress]) -> None:
        for event in events:
            self.lines.setdefault(event.domain, Line()).hear(event)

    def text(self) -> Text:
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        names = {name: visible(name) or HOST for name in self.lines}
        room = max(map(cell_len, names.values()), default=0) + 2
        lines = []
        for name, line in self.lines.items():
            written = Text(set_cell_size(names[name], room), no_wrap=True, overflow="ellipsis")
            lines.append(written.append_text(_status(line)))
        text = Text("\n", no_wrap=True, overflow="ellipsis").join(lines)
        text.no_wrap, text.overflow = True, "ellipsis"
        return text


def _status(line: Line) -> Text:
    from rich.text import Text

    from virtcpr.cli.output.cells import RESULT_STYLES
    from virtcpr.cli.output.keeping import KEEPING_STYLES

    status = Text()
    if line.result:
        style = RESULT_STYLES[line.result] if isinstance(line.result, Result) else KEEPING_STYLES[line.result]
        status.append(f"{line.result.value:<12}", style=style)
    else:
        status.append(f"{visible(line.phase)}…".ljust(12))
    if line.pause_ms is not None:
        status.append(f"  pause {milliseconds(line.pause_ms)}")
    if line.text:
        status.append(f"  {' '.join(visible_lines(line.text))}", style="dim")
    return status


@contextmanager
def _lines(session: Session, domains: tuple[str, ...]) -> Iterator[Draw]:
    """The live display.  It vanishes if the result's table follows on the same terminal."""
    from rich.console import Console
    from rich.live import Live

    color = session.colors(sys.stderr)
    console = Console(
        file=sys.stderr,
        force_terminal=True,
        no_color=not color,
        highlight=False,
        markup=False,
        emoji=False,
    )
    if not color:
        console._color_system = None
    board = Board({name: Line() for name in domains})
    live = Live(
        board.text(),
        console=console,
        auto_refresh=False,
        transient=sys.stdout.isatty(),
        redirect_stdout=False,
    )

    def draw(events: Sequence[Progress]) -> None:
        board.hear(events)
        live.update(board.text(), refresh=True)

    with live:
        yield draw
