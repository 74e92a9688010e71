"""Progress of an upgrade, a save or a restore: a live display on a terminal, a few lines per domain elsewhere.

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

from virtcpr.cli import log
from virtcpr.cli.output.text import milliseconds, visible, visible_lines
from virtcpr.cli.session import Session
from virtcpr.model import Progress, Watch

LATE_SECONDS = 0.1
END_SECONDS = 5.0
TICK = 1.0  # s: the clocks of the live display
NO_RETURN = ("commit", "end-old")  # the steps of the two modes from which there is no way back
HOST = "host"
Draw = Callable[[Sequence[Progress]], None]


@contextmanager
def watching(session: Session, domains: tuple[str, ...]) -> Iterator[Watch]:
    """Yield the function to call at every step.  It never blocks and never raises."""
    if session.verbosity < 0:
        yield _ignore
    elif session.terminal(sys.stderr) and not session.verbosity and domains:
        from virtcpr.cli.output import display

        color, vanishes = session.colors(sys.stderr), sys.stdout.isatty()  # the result's table follows
        with display.live(sys.stderr, domains, color=color, transient=vanishes) as draw, _drawing(draw, TICK) as watch:
            yield watch
    else:
        written = Lines(everything=session.verbosity > 0)
        with _drawing(lambda events: _print(written.chosen(events))) as watch:
            yield watch


def _ignore(event: Progress) -> None:
    pass


@contextmanager
def _drawing(draw: Draw, tick: float | None = None) -> Iterator[Watch]:
    """Hand events to ``draw`` in a thread, in batches; the rest is drawn before this returns.

    With ``tick`` it also draws if there was no event for so many seconds.  If the display fails, or doesn't end within
    END_SECONDS, only the display is given up.
    """
    events: queue.SimpleQueue[Progress | None] = queue.SimpleQueue()
    ending = threading.Event()

    def work() -> None:
        more = True
        while more:
            batch = _next(events, tick)
            ending.wait(LATE_SECONDS if batch else 0)
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


def _next(events: queue.SimpleQueue[Progress | None], tick: float | None) -> list[Progress | None]:
    """The next event, or nothing after ``tick`` seconds without one."""
    try:
        return [events.get(timeout=tick)]
    except queue.Empty:
        return []


def plain(event: Progress) -> str:
    """``DOMAIN: PHASE``, or ``DOMAIN: RESULT, pause 38 ms`` at its end."""
    parts = [event.result.value if event.result else event.phase]
    if event.pause_ms is not None:
        parts.append(f"pause {milliseconds(event.pause_ms)}")
    text = " ".join(visible_lines(event.text))
    headline = ", ".join(visible(part) for part in parts if part)
    return f"virtcpr: {visible(event.domain) or HOST}: " + ": ".join(part for part in (headline, text) if part)


class Lines:
    """Which events get a line: the first of a domain, its point of no return, its result, and those of the host."""

    def __init__(self, *, everything: bool) -> None:
        self.everything = everything
        self._begun: set[str] = set()
        self._past: set[str] = set()

    def chosen(self, events: Sequence[Progress]) -> list[Progress]:
        return [event for event in events if self._has_line(event)]

    def _has_line(self, event: Progress) -> bool:
        name = event.domain
        if self.everything or not name or event.result:
            return True
        if name not in self._begun:
            self._begun.add(name)
            return True
        if event.phase in NO_RETURN and name not in self._past:
            self._past.add(name)
            return True
        return False


def _print(events: Sequence[Progress]) -> None:
    for event in events:
        log.say(plain(event))
