"""``upgrade``: move running domains to the installed QEMU, in the mode of the request, together or in waves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from virtcpr.actions.reboot import batch as reboot
from virtcpr.actions.reboot import move as reboot_move
from virtcpr.actions.rollout.waves import Upgrade, Waves, in_waves
from virtcpr.actions.transfer import batch as transfer
from virtcpr.actions.transfer import move as transfer_move
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.model import Blackouts, ExitCode, Mode, Outlook, Request, Result, UpgradeReport, Watch
from virtcpr.plan.batch.fallback import merged
from virtcpr.plan.batch.forecast import too_long
from virtcpr.plan.batch.rollout import TOGETHER
from virtcpr.plan.outcome import exit_code


@contextmanager
def open_upgrade(request: Request) -> Iterator[Upgrade]:
    """Take the host's lock, look at the domains, plan and rehearse; nothing is touched before ``run``.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    if request.mode is Mode.REBOOT:
        with reboot.open_batch(request) as batch:
            yield in_waves(batch, request)
        return
    if request.fallback is Mode.REBOOT:
        reboot.refuse_non_root()
    with transfer.open_batch(request) as first:
        others = _blocked(first.outlooks) if request.fallback is Mode.REBOOT else ()
        if not others:
            yield in_waves(first, request, transfer.Batch)
            return
        second = reboot.Batch(_by_reboot(request, others), first.connection)
        yield Both(in_waves(first, request, transfer.Batch), Waves(second, request.rollout or TOGETHER))


class Both:
    """What mode transfer can move, then the rest by mode reboot."""

    def __init__(self, first: Waves[transfer_move.Move], second: Waves[reboot_move.Move]) -> None:
        self.first, self.second = first, second
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

        The second isn't begun after a signal, after what halts the waves of the first, or while it isn't known which
        QEMU has a guest of the first.
        """
        with self.interrupt:
            done = self.first.run(watch)
            unsettled = [domain.name for domain in done.domains if domain.result is Result.UNKNOWN]
            if self.interrupt.requested:
                self.second.turn_back("interrupted")
            elif unsettled:
                self.second.turn_back(f"the move of {', '.join(unsettled)} isn't settled")
            elif done.exit_code is ExitCode.UNKNOWN:
                self.second.turn_back("libvirt's daemon isn't there")
            elif self.first.halted:
                self.second.turn_back(self.first.halted)
            self.second.connection = self.first.connection  # the first batch opened it anew
            rest = self.second.run(watch)
            self.first.connection = self.second.connection
        domains = merged(done.domains, rest.domains)
        away = [ms for ms in (done.blackout_ms, rest.blackout_ms) if ms is not None]
        code = exit_code({domain.result for domain in domains}, (done.exit_code, rest.exit_code))
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
