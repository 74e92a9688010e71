"""``upgrade --mode reboot``: save every guest to a file, end it, and let libvirt start it on the installed QEMU."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from virtcpr.actions.daemon import blackout, qemu_hook
from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.reboot.move import Move, planned
from virtcpr.actions.reboot.parallel import together
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.reboot.save_guest import Saving
from virtcpr.actions.records import history, moved
from virtcpr.actions.records.unsettled import refuse_unsettled
from virtcpr.errors import SETTLE, HostError, Unsettled, VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.system.lock import Lock
from virtcpr.model import (
    Blackouts,
    ExitCode,
    Finding,
    Mode,
    Outlook,
    Progress,
    Request,
    Result,
    Severity,
    UpgradeReport,
    Watch,
)
from virtcpr.plan.batch.forecast import with_forecast
from virtcpr.plan.outcome import exit_code
from virtcpr.plan.reboot.recovery import Purpose


@contextmanager
def open_batch(request: Request) -> Iterator[Batch]:
    """Take the host's lock, look at every domain that is asked for, and plan.  Nothing is touched.

    Raises UsageError if the request is invalid, HostError if the host isn't ready, Unsettled if an earlier action was
    interrupted.
    """
    refuse_non_root()
    with Lock():
        refuse_unsettled()
        batch = Batch(request, Connection(request.uri))
        try:
            yield batch
        finally:
            batch.connection.close()


def refuse_non_root() -> None:
    """Raises HostError: sessions have no mode reboot."""
    if os.geteuid() != 0:
        raise HostError("only root can move guests by mode reboot", hint="run it with sudo")


class Batch:
    """A planned batch; ``outlooks`` is what is to be done.  Its moves are made within ``interrupt``."""

    def __init__(self, request: Request, connection: Connection) -> None:
        self.request, self.connection = request, connection
        self.interrupt = Interrupt()
        self.blackout_ms: float | None = None
        self.notes: list[str] = []
        self._codes: list[ExitCode] = []
        self.moves = planned(connection, request)
        self._pauses = history.pauses(Mode.REBOOT)

    @property
    def outlooks(self) -> tuple[Outlook, ...]:
        return tuple(with_forecast(move.outlook(), self._pauses) for move in self.moves)

    def forecast_of(self, sizes: Sequence[int]) -> Blackouts | None:
        """How long libvirt's daemon will be away: there is no forecast for this mode."""
        return None

    def move(self, moves: Sequence[Move], watch: Watch) -> None:
        """Make these moves, side by side.  One domain's failure isn't raised: its result says what became of it.

        A signal gives up every guest whose process isn't ended yet; the others are restored.
        """
        if moves:
            self._run(list(moves), watch)
        for move in moves:
            moved.note(move.report())

    def report(self) -> UpgradeReport:
        """What became of all of them."""
        reports = tuple(move.report() for move in self.moves)
        return UpgradeReport(
            reports,
            exit_code({report.result for report in reports}, self._codes),
            self.blackout_ms,
            tuple(self.notes),
        )

    def _run(self, ready: list[Move], watch: Watch) -> None:
        with ExitStack() as stack:
            try:
                stack.enter_context(blackout.guarded(required=True))
                self.connection = qemu_hook.ready(self.connection)
                for path, target in {(move.facts.emulator.path, move.facts.emulator.target) for move in ready}:
                    self.connection.learn(path, target)
            except (VirtcprError, OSError) as error:
                self._codes += blackout.codes(error)
                for move in ready:
                    move.fail(HostError(f"{error}; nothing was touched", hint=getattr(error, "hint", None)))
                return
            together(ready, lambda move: self._move(move, watch), self.request.parallel)
            self._strip(ready, watch)
            # A start during which libvirt's daemon died can be settled only now.
            if unsettled := [move for move in ready if move.result is Result.UNKNOWN]:
                for move in unsettled:
                    _settle(move)
                self._strip(unsettled, watch)

    def _move(self, move: Move, watch: Watch) -> None:
        try:
            self._through_the_file(move, watch)
            move.end(Result.UPGRADED)
        except VirtcprError as error:
            move.fail(error)
        except Exception as error:  # a defect: the guest's state isn't known, and the others must not suffer
            move.fail(Unsettled(f"{move.facts.name}: {type(error).__name__}: {error}", hint=SETTLE))
        if move.result is Result.UNKNOWN:  # now, not when the others are done: its guest may be paused
            _settle(move)
        pause = move.pause_ms if move.result is Result.UPGRADED else None
        watch(Progress(move.facts.name, "done", result=move.result, pause_ms=pause))

    def _through_the_file(self, move: Move, watch: Watch) -> None:
        assert move.plan is not None

        def enter(phase: str) -> None:
            watch(Progress(move.facts.name, phase))

        domain = self.connection.lookup(move.facts.uuid)
        saving = Saving(domain, move.plan, Purpose.UPGRADE, enter, lambda: self.interrupt.requested)
        try:
            saving.run()
        finally:
            move.phases += saving.phases
        ready = saving.record.saved.xml if saving.record.saved.plain is not None else None
        try:
            self._restore(move, saving, enter)
        except HostError as error:
            if ready is None or saving.record.saved.xml == ready:  # it wouldn't be started otherwise next time
                raise
            self._restore(move, saving, enter)
            assert move.new is not None
            raise HostError(
                f"{error.__cause__ or error}; the guest runs again as it was, not ready, in process {move.new.pid}",
                hint="'virtcpr check' says what else there is",
            ) from error

    def _restore(self, move: Move, saving: Saving, enter: Callable[[str], None]) -> None:
        restoring = Restoring(self.connection, saving.record, move.facts.emulator, enter)
        try:
            restoring.run(read=False, trusted=True)
        finally:
            move.phases += restoring.phases
            move.new = restoring.new
        if saving.stopped is not None and restoring.resumed is not None:
            move.pause_ms = round((restoring.resumed - saving.stopped) * 1000, 1)
        move.runs = True

    def _strip(self, ready: list[Move], watch: Watch) -> None:
        """Take out of libvirt's records what made the domains wait, while its daemon is down."""
        moved = [move for move in ready if (move.runs or move.result is Result.UPGRADED) and move.new is not None]
        guests = {move.facts.uuid: move.new for move in moved if move.new is not None}
        stripped = strip.strip_in_blackout(self.connection, guests, watch)
        self.connection, self._codes = stripped.connection, [*self._codes, *stripped.codes]
        if stripped.blackout_ms:
            self.blackout_ms = (self.blackout_ms or 0) + stripped.blackout_ms
        for move in moved:
            move.findings = (*move.findings, *(_warning(text) for text in stripped.problems))


def _settle(move: Move) -> None:
    outcome = settle.settle_now(move.facts.uuid)
    if outcome is not None:
        move.recovered(outcome)


def _warning(text: str) -> Finding:
    return Finding("leftover", Severity.WARNING, text, strip.REMEDY)
