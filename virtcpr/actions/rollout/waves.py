"""A planned batch is moved wave by wave, if the administrator's programs don't object."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from virtcpr.actions.records import builds, moved
from virtcpr.actions.rollout import guest, notice
from virtcpr.actions.rollout.probation import OnProbation
from virtcpr.errors import ParseError, UsageError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.report import hooks_d
from virtcpr.host.system.wait import wait_until
from virtcpr.model import Blackouts, ExitCode, Outlook, Progress, Request, Result, Rollout, UpgradeReport, Watch
from virtcpr.plan.batch.rollout import TOGETHER, Wave, halts, waves
from virtcpr.plan.findings.table import GUEST_VETOED, VETOED
from virtcpr.plan.outcome import exit_code

Move = TypeVar("Move", bound=notice.Moved)
PAUSE_POLL = 0.1  # s; a signal sets a flag, for which there is no event


class Upgrade(Protocol):
    """Planned moves.  ``outlooks`` is what ``run`` would do; ``turn_back`` leaves all of it undone."""

    connection: Connection
    interrupt: Interrupt

    @property
    def outlooks(self) -> tuple[Outlook, ...]: ...
    @property
    def forecast(self) -> Blackouts | None: ...
    def run(self, watch: Watch) -> UpgradeReport: ...
    def turn_back(self, why: str) -> None: ...


class Batch(Protocol[Move]):
    """A batch of one mode, of which some moves can be made at a time."""

    connection: Connection
    interrupt: Interrupt
    moves: list[Move]
    notes: list[str]

    @property
    def outlooks(self) -> tuple[Outlook, ...]: ...
    def forecast_of(self, sizes: Sequence[int]) -> Blackouts | None: ...
    def move(self, moves: Sequence[Move], watch: Watch) -> None: ...
    def report(self) -> UpgradeReport: ...


def in_waves(
    batch: Batch[Move], request: Request, again: Callable[[Request, Connection], Batch[Move]] | None = None
) -> Waves[Move]:
    """The batch in the waves of the request, or all together.  ``again`` plans another batch of its mode, for guests
    that go back; None: in this mode none does.

    Raises UsageError for a canary that isn't in it.
    """
    rollout = request.rollout or TOGETHER
    for canary in rollout.canaries:
        if not any(canary in _names(move) for move in batch.moves):
            raise UsageError(f"the canary {canary} isn't one of the domains to move", hint="virtcpr list")
    return Waves(batch, rollout, on_probation(request, again) if again else None)


def on_probation(request: Request, again: Callable[[Request, Connection], Batch[Move]]) -> OnProbation[Move] | None:
    """How guests are watched afterwards; None: they aren't.  Raises UsageError if there would be no way back."""
    if request.probation is None:
        return None
    if not builds.wanted():
        raise UsageError(
            "guests that are watched need a way back, and keep.builds in virtcpr.toml is 0", hint="man virtcpr.toml"
        )
    return OnProbation(request.probation, request, again)


def _names(move: notice.Moved) -> tuple[str, ...]:
    """What an option can name it by: one of its tags is ``tag:TAG``."""
    tags: frozenset[str] = frozenset()
    with suppress(ParseError):  # a finding says so
        tags = move.facts.live.tags
    return (move.facts.name, move.facts.uuid, *(f"tag:{tag}" for tag in tags))


class Waves(Generic[Move]):
    """A batch that is moved wave by wave.  ``halted``: why the rest was left alone."""

    def __init__(self, batch: Batch[Move], rollout: Rollout, probation: OnProbation[Move] | None = None) -> None:
        self.batch, self.rollout, self.probation = batch, rollout, probation
        self.interrupt = batch.interrupt
        self.halted: str | None = None

    @property
    def connection(self) -> Connection:
        return self.batch.connection

    @connection.setter
    def connection(self, connection: Connection) -> None:
        self.batch.connection = connection

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return self.batch.outlooks

    @property
    def forecast(self) -> Blackouts | None:
        """How often and how long libvirt's daemon will be away; None if that can't be told."""
        return self.batch.forecast_of([len(wave.items) for wave in self._waves()])

    def turn_back(self, why: str) -> None:
        """Make none of the moves that are left."""
        self._leave(self._ready, why)

    def run(self, watch: Watch) -> UpgradeReport:
        """Move every domain that has a plan, one wave after the other: none is begun after a failure before it.

        One domain's failure isn't raised: its result says what became of it.  Domains of waves that aren't begun are
        rolled back: they weren't touched.  SIGINT, SIGTERM and SIGHUP roll back every move before its point of no
        return; the others are finished.
        """
        notes = builds.keep(move.facts for move in self._ready)
        ended = [(move.facts.name, move.result, True) for move in self.batch.moves if self._decided_canary(move)]
        self.halted = self._why_not(ended)
        with self.interrupt:
            for move in self.batch.moves:
                if move.result is not None:
                    watch(Progress(move.facts.name, "", result=move.result))
            planned = self._waves()
            for number, wave in enumerate(planned, 1):
                if self.halted:
                    self._leave(wave.items, self.halted)
                    continue
                place = notice.Place(number, len(planned), wave.canary)
                self._move(wave, place, watch)
                if self.probation is not None:
                    self.probation.watch(self.batch, wave.items, place, watch)
                ended += [(move.facts.name, move.result, wave.canary) for move in wave.items]
                if number < len(planned) and not self._why_not(ended):
                    self._pause(watch)
                self.halted = self._why_not(ended)
        report = self.batch.report()
        code = exit_code({domain.result for domain in report.domains}, [report.exit_code, *self._ways_back])
        return replace(report, exit_code=code, notes=(*report.notes, *notes))

    def _move(self, wave: Wave[Move], place: notice.Place, watch: Watch) -> None:
        """Ask the administrator's programs and the guests, and move those that they let pass.

        Who was asked is told of the end, whatever it is: a guest may have made itself quiet.
        """
        asked: list[Move] = []
        told: list[Move] = []
        try:
            self._ask("before-wave", wave.items, place, watch)
            for move in wave.items:
                if move.result is None and not self.interrupt.requested:
                    asked.append(move)
                    self._ask("before-domain", [move], place, watch)
                if move.result is None and not self.interrupt.requested:
                    told.append(move)
                    self._ask_guest(move, watch)
            going = [move for move in wave.items if move.result is None]
            if self.interrupt.requested:
                self._leave(going, "interrupted")
            else:
                self.batch.move(going, watch)
        finally:
            for move in told:
                guest.tell(self.batch.connection, move.facts)
            for move in asked:
                self._tell("after-domain", [move], place)
            self._tell("after-wave", wave.items, place)

    def _ask(self, event: str, moves: Sequence[Move], place: notice.Place, watch: Watch) -> None:
        """If a program objects, these domains are blocked."""
        if objection := hooks_d.ask(event, lambda: notice.document(event, place, moves)):
            for move in moves:
                move.end(Result.BLOCKED, VETOED.finding(move.facts.name, {"event": event, "words": objection}))
                watch(Progress(move.facts.name, "", result=move.result))

    def _ask_guest(self, move: Move, watch: Watch) -> None:
        """If it may object, and does, it is blocked."""
        if objection := guest.ask(self.batch.connection, move.facts):
            move.end(Result.BLOCKED, GUEST_VETOED.finding(move.facts.name, {"words": objection}))
            watch(Progress(move.facts.name, "", result=move.result))

    def _leave(self, moves: Sequence[Move], why: str) -> None:
        """Don't make these moves after all."""
        for move in moves:
            move.turn_back(f"{move.facts.name}: {why}")
            moved.note(move.report())

    @property
    def _ready(self) -> list[Move]:
        """The moves that are still to be made."""
        return [move for move in self.batch.moves if move.result is None]

    def _tell(self, event: str, moves: Sequence[Move], place: notice.Place) -> None:
        hooks_d.tell(event, lambda: notice.document(event, place, moves))

    def _waves(self) -> list[Wave[Move]]:
        return waves(self._ready, self.rollout, _names)

    def _why_not(self, ended: list[tuple[str, Result | None, bool]]) -> str | None:
        if self.interrupt.requested:
            return "interrupted"
        if why := halts(ended, self.rollout):
            return why
        return "libvirt's daemon isn't there" if ExitCode.UNKNOWN in self._ways_back else None

    @property
    def _ways_back(self) -> list[ExitCode]:
        return self.probation.codes if self.probation else []

    def _decided_canary(self, move: Move) -> bool:
        """One that can't be moved, or needn't be."""
        return move.result is not None and not set(self.rollout.canaries).isdisjoint(_names(move))

    def _pause(self, watch: Watch) -> None:
        """libvirt's daemon is back meanwhile, and guests can be looked at; a signal ends it."""
        if self.rollout.pause_s:
            watch(Progress("", f"the next wave begins in {self.rollout.pause_s:g} s"))
            wait_until(lambda: self.interrupt.requested, self.rollout.pause_s, poll=PAUSE_POLL)
