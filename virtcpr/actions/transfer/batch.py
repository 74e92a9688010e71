"""A batch of modes transfer and live: every domain probed and planned, then moved in as many blackouts as needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from virtcpr.actions.records import history, moved
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.actions.transfer.group import Group
from virtcpr.actions.transfer.move import Move, moved_by, planned
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.lock import Lock
from virtcpr.host.system.paths import NOT_ROOT, may_act
from virtcpr.model import Blackout, Blackouts, ExitCode, Mode, Outlook, Request, Result, UpgradeReport, Watch
from virtcpr.plan.batch.forecast import at_once, blackouts, one_after_the_other, one_by_one, with_forecast
from virtcpr.plan.outcome import exit_code


@contextmanager
def open_batch(request: Request) -> Iterator[Batch]:
    """Take the host's lock, look at every domain that is asked for, and plan.  Nothing is touched.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    if not may_act(request.uri):
        raise HostError("only root can move guests", hint=NOT_ROOT)
    with Lock():
        refuse_unsettled()
        connection = Connection(request.uri)
        try:
            yield Batch(request, connection)
        finally:
            connection.close()


class Batch:
    """A planned batch; ``outlooks`` is what is to be done.  Its moves are made within ``interrupt``."""

    def __init__(self, request: Request, connection: Connection) -> None:
        running = daemon.running()  # nothing is begun without it
        if running.process is not None:
            hooks.refuse_forbidden(running.process)
        self.request = request
        self.connection = connection
        self.interrupt = Interrupt()
        self.notes: list[str] = []
        self.moves = planned(connection, request, ping=True)
        self._pauses = history.pauses(moved_by(request))
        self._seen = history.blackouts(moved_by(request))
        self._blackouts: list[Blackout] = []  # of this run
        self._down = False  # libvirt's daemon couldn't be started again

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return tuple(with_forecast(move.outlook(), self._pauses) for move in self.moves)

    def forecast_of(self, sizes: Sequence[int]) -> Blackouts | None:
        """How often and how long libvirt's daemon will be away if so many guests are moved at a time.

        None if that can't be told.
        """
        if self._one_by_one:
            return one_by_one(self._seen, sum(sizes))
        return one_after_the_other([blackouts(self._seen, size, self._limit_ms) for size in sizes])

    @property
    def _one_by_one(self) -> bool:
        """The host has one guest's RAM twice at a time."""
        return moved_by(self.request) is Mode.LIVE

    @property
    def _limit_ms(self) -> float | None:
        return None if self.request.max_blackout_s is None else self.request.max_blackout_s * 1000

    def move(self, moves: Sequence[Move], watch: Watch) -> None:
        """Make these moves, within the limit on blackouts.  One domain's failure isn't raised: its result says what
        became of it.

        A signal rolls back every swap before its point of no return; the others are finished.
        """
        left = list(moves)
        while left:  # whatever becomes of a guest, it isn't tried twice
            most = 1 if self._one_by_one else len(left)
            number = at_once([*self._seen, *self._blackouts], most, self._limit_ms)
            if why := self._stops(number):
                part, left = left, []
                for move in part:
                    move.turn_back(f"{move.facts.name}: {why}")
            else:
                part, left = left[:number], left[number:]
                self._together(part, watch)
            for move in part:
                moved.note(move.report())

    def report(self) -> UpgradeReport:
        """What became of all of them."""
        reports = tuple(move.report() for move in self.moves)
        away = [one.ms for one in self._blackouts]
        return UpgradeReport(
            reports,
            exit_code({report.result for report in reports}, [ExitCode.UNKNOWN] if self._down else ()),
            round(sum(away), 1) if away else None,
            tuple(self.notes),
            Blackouts(len(away), max(away)) if away else None,
        )

    def _stops(self, number: int) -> str | None:
        """Why the guests that are left aren't moved; ``number`` of them would be, next."""
        unsettled = [move.facts.name for move in self.moves if move.result is Result.UNKNOWN]
        if self.interrupt.requested:
            return "interrupted"
        if unsettled:
            return f"the move of {', '.join(unsettled)} isn't settled"
        if self._down:
            return "libvirt's daemon isn't there"
        return None if number else f"one more blackout is forecast to be longer than {self.request.max_blackout_s:g} s"

    def _together(self, moves: list[Move], watch: Watch) -> None:
        """Move these in one blackout; the daemon is back afterwards, or ``_stops`` says why no others are moved."""
        try:
            group = Group(moves, self.request, self.connection, self.interrupt)
        except (HostError, OSError) as error:  # no daemon: it may have ended since the last blackout
            for move in moves:
                move.turn_back(str(error), getattr(error, "hint", None))
            return
        group.run(watch)
        self.connection, self._down = group.connection, group.down
        self.notes += group.notes
        if group.blackout is not None:
            self._blackouts.append(group.blackout)
            if self._limit_ms is not None and group.blackout.ms > self._limit_ms:
                long = f"{group.blackout.ms / 1000:.1f} s (guests moved: {group.blackout.guests})"
                self.notes.append(
                    f"a blackout of {long} was longer than --max-blackout {self.request.max_blackout_s:g}"
                )
