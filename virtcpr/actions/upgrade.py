"""``upgrade``: move running domains to the installed QEMU, in the mode of the request, together or in waves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic, Protocol, TypeVar

from virtcpr.actions.reboot import batch as reboot
from virtcpr.actions.reboot import move as reboot_move
from virtcpr.actions.transfer import batch as transfer
from virtcpr.actions.transfer import move as transfer_move
from virtcpr.errors import UsageError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.wait import wait_until
from virtcpr.model import Blackouts, Mode, Outlook, Progress, Request, Result, Rollout, UpgradeReport, Watch
from virtcpr.plan.batch.fallback import merged
from virtcpr.plan.batch.forecast import too_long
from virtcpr.plan.batch.rollout import Wave, halts, waves
from virtcpr.plan.outcome import Outcome, exit_code

PAUSE_POLL = 0.1  # s; a signal sets a flag, for which there is no event

Move = TypeVar("Move", bound=Outcome)


class Upgrade(Protocol):
    """What ``open_upgrade`` gives.  ``outlooks`` is what ``run`` would do; ``turn_back`` leaves all of it undone."""

    connection: Connection
    interrupt: Interrupt

    @property
    def outlooks(self) -> tuple[Outlook, ...]: ...
    @property
    def forecast(self) -> Blackouts | None: ...
    def run(self, watch: Watch) -> UpgradeReport: ...
    def turn_back(self, why: str) -> None: ...


class Batch(Upgrade, Protocol[Move]):
    """A batch of one mode, of which some moves can be made at a time."""

    moves: list[Move]

    @property
    def ready(self) -> list[Move]: ...
    def forecast_of(self, sizes: Sequence[int]) -> Blackouts | None: ...
    def tell_decided(self, watch: Watch) -> None: ...
    def move(self, moves: Sequence[Move], watch: Watch) -> None: ...
    def leave(self, moves: Sequence[Move], why: str) -> None: ...
    def report(self) -> UpgradeReport: ...


@contextmanager
def open_upgrade(request: Request) -> Iterator[Upgrade]:
    """Take the host's lock, look at the domains, plan and rehearse; nothing is touched before ``run``.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    if request.mode is Mode.REBOOT:
        with reboot.open_batch(request) as batch:
            yield _in_waves(batch, request)
        return
    if request.fallback is Mode.REBOOT:
        reboot.refuse_non_root()
    with transfer.open_batch(request) as first:
        others = _blocked(first.outlooks) if request.fallback is Mode.REBOOT else ()
        if not others:
            yield _in_waves(first, request)
            return
        second = _by_reboot(request, others)
        yield Both(
            _in_waves(first, request), _in_waves(reboot.Batch(second, first.connection), second), request.rollout
        )


def _in_waves(batch: Batch[Move], request: Request) -> Upgrade:
    """Raises UsageError if a canary isn't one of the domains."""
    for canary in request.rollout.canaries if request.rollout else ():
        if not any(canary in _names(move) for move in batch.moves):
            raise UsageError(f"the canary {canary} isn't one of the domains to move", hint="virtcpr list")
    return InWaves(batch, request.rollout) if request.rollout else batch


def _names(move: Outcome) -> tuple[str, str]:
    return move.facts.name, move.facts.uuid


class InWaves(Generic[Move]):
    """A batch that is moved wave by wave."""

    def __init__(self, batch: Batch[Move], rollout: Rollout) -> None:
        self.batch, self.rollout = batch, rollout
        self.interrupt = batch.interrupt

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

    def run(self, watch: Watch) -> UpgradeReport:
        """As the batch's ``run``, one wave after the other: none is begun after a failure before it.

        The domains of waves that aren't begun are rolled back: they weren't touched.
        """
        ended = [(move.facts.name, move.result, True) for move in self.batch.moves if self._decided_canary(move)]
        with self.interrupt:
            self.batch.tell_decided(watch)
            planned = self._waves()
            for wave in planned:
                if why := self._why_not(ended):
                    self.batch.leave(wave.items, why)
                else:
                    self.batch.move(wave.items, watch)
                    ended += [(move.facts.name, move.result, wave.canary) for move in wave.items]
                    if wave is not planned[-1] and not self._why_not(ended):
                        self._pause(watch)
        return self.batch.report()

    def turn_back(self, why: str) -> None:
        self.batch.turn_back(why)

    def _waves(self) -> list[Wave[Move]]:
        return waves(self.batch.ready, self.rollout, _names)

    def _decided_canary(self, move: Move) -> bool:
        """One that can't be moved, or needn't be."""
        return move.result is not None and not set(self.rollout.canaries).isdisjoint(_names(move))

    def _why_not(self, ended: list[tuple[str, Result | None, bool]]) -> str | None:
        return "interrupted" if self.interrupt.requested else halts(ended, self.rollout)

    def _pause(self, watch: Watch) -> None:
        """libvirt's daemon is back meanwhile, and guests can be looked at; a signal ends it."""
        if self.rollout.pause_s:
            watch(Progress("", f"the next wave begins in {self.rollout.pause_s:g} s"))
            wait_until(lambda: self.interrupt.requested, self.rollout.pause_s, poll=PAUSE_POLL)


class Both:
    """What mode transfer can move, then the rest by mode reboot."""

    def __init__(self, first: Upgrade, second: Upgrade, rollout: Rollout | None = None) -> None:
        self.first, self.second, self.rollout = first, second, rollout
        self.interrupt = Interrupt()

    @property
    def connection(self) -> Connection:
        return self.first.connection

    @connection.setter
    def connection(self, connection: Connection) -> None:
        self.first.connection = connection

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return merged(self.first.outlooks, self.second.outlooks)

    @property
    def forecast(self) -> Blackouts | None:
        """How often and how long libvirt's daemon will be away for mode transfer; None if that can't be told."""
        return self.first.forecast

    def run(self, watch: Watch) -> UpgradeReport:
        """Run one batch after the other, as each does alone.

        The second isn't begun after a signal, or while it isn't known which QEMU has a guest of the first.
        """
        with self.interrupt:
            done = self.first.run(watch)
            unsettled = [domain.name for domain in done.domains if domain.result is Result.UNKNOWN]
            if self.interrupt.requested:
                self.second.turn_back("interrupted")
            elif unsettled:
                self.second.turn_back(f"the move of {', '.join(unsettled)} isn't settled")
            elif why := halts([(domain.name, domain.result, False) for domain in done.domains], self.rollout):
                self.second.turn_back(why)
            self.second.connection = self.first.connection  # the first batch opened it anew
            rest = self.second.run(watch)
            self.first.connection = self.second.connection
        domains = merged(done.domains, rest.domains)
        away = [ms for ms in (done.blackout_ms, rest.blackout_ms) if ms is not None]
        code = exit_code({domain.result for domain in domains})
        total = sum(away) if away else None
        return UpgradeReport(domains, code, total, (*done.notes, *rest.notes), done.blackouts)

    def turn_back(self, why: str) -> None:
        self.first.turn_back(why)
        self.second.turn_back(why)


def outlooks(connection: Connection, request: Request) -> list[Outlook]:
    """What ``open_upgrade(request)`` would do with each domain.  Raises UsageError and HostError; touches nothing."""
    if request.mode is Mode.REBOOT:
        return [move.outlook() for move in reboot_move.planned(connection, request)]
    first = [move.outlook() for move in transfer_move.planned(connection, request)]
    others = _blocked(first)
    if request.fallback is None or not others:
        return first
    return [*merged(first, outlooks(connection, _by_reboot(request, others)))]


def _blocked(outlooks: Sequence[Outlook]) -> tuple[str, ...]:
    return tuple(outlook.uuid for outlook in outlooks if outlook.blocked and not too_long(outlook))


def _by_reboot(request: Request, uuids: tuple[str, ...]) -> Request:
    return replace(request, domains=uuids, every=False, mode=Mode.REBOOT, fallback=None)
