"""The guests of one blackout: every new QEMU is made while libvirt's daemon is there, then the daemon is away once,
and all are handed over."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from shlex import quote

from virtcpr.actions.daemon import blackout, reconnect
from virtcpr.actions.daemon.blackout import BY_HAND, Away, DaemonDown
from virtcpr.actions.monitor.passthrough import Passthrough
from virtcpr.actions.records import journal
from virtcpr.actions.rehearsal.rehearse import remember_refusal
from virtcpr.actions.transfer import guest_events, libvirt_record, ownership, verify
from virtcpr.actions.transfer.copying import COPY_SECONDS, DOWNTIME_MS, Copying
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.actions.transfer.move import Move, parallel
from virtcpr.actions.transfer.new_qemu import end, spawn
from virtcpr.actions.transfer.parked.hand_over import Parked
from virtcpr.actions.transfer.resources import helpers
from virtcpr.actions.transfer.settle import Settlement
from virtcpr.errors import SETTLE, Ended, HostError, Unsettled, VirtcprError
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes.interrupt import Interrupt
from virtcpr.host.processes.proc import Process
from virtcpr.model import (
    AWAY,
    BACK,
    Blackout,
    Finding,
    Mode,
    Phase,
    Progress,
    Request,
    Result,
    Settled,
    Severity,
    Watch,
)
from virtcpr.plan.steps import SPAWN, State


class Group:
    """Planned moves.  ``connection`` is replaced when the daemon has started anew."""

    def __init__(self, moves: list[Move], request: Request, connection: Connection, interrupt: Interrupt) -> None:
        self.moves, self.request, self.connection, self.interrupt = moves, request, connection, interrupt
        self.recipe = daemon.running().recipe
        self.blackout: Blackout | None = None
        self.notes: list[str] = []
        self.down = False  # libvirt's daemon couldn't be started again
        self._connecting = threading.Lock()
        self._alone = False  # libvirt's daemon is away: recovery can look at both processes

    def run(self, watch: Watch) -> None:
        """Move them.  One domain's failure isn't raised: its result says what became of it."""
        with self._guarded():
            self._spawn_all(watch)
            ready = [move for move in self.moves if move.result is None]
            for path, target in {(move.facts.emulator.recorded, move.facts.emulator.target) for move in ready}:
                self.connection.learn(path, target)
            if ready:
                with asyncio.Runner() as runner:
                    self._swap_all(ready, watch, runner)

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """From the first new QEMU on the guardian watches: a killed virtcpr leaves none behind.

        Without a guardian nothing is moved.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(blackout.guarded(self.recipe, required=True))
            except (HostError, OSError) as error:
                for move in self.moves:
                    move.turn_back(str(error), getattr(error, "hint", None))
            yield

    def _spawn_all(self, watch: Watch) -> None:
        for move in [move for move in self.moves if move.result is None]:
            if self.interrupt.requested:
                move.turn_back(f"{move.facts.name}: interrupted")
            else:
                watch(Progress(move.facts.name, SPAWN.name))
                self._spawn(move, watch)

    def _spawn(self, move: Move, watch: Watch) -> None:
        assert move.plan is not None
        record = move.journal(self.recipe)
        begun = time.monotonic()
        try:
            record.write(State.PLANNED)
            libvirt_record.reserve(move.plan.guest)
            helpers.start(move.plan.helpers)
            move.new = spawn(move.plan)
            process = move.new.process
            spare = move.new.spare.process if move.new.spare else None
            record.write(
                State.PLANNED,
                new_pid=process.pid,
                new_started=process.started,
                spare_pid=spare.pid if spare else None,
                spare_started=spare.started if spare else None,
            )
        except (VirtcprError, OSError) as error:
            self._abandon(move, record, error)
            return
        except Exception as error:  # a defect: this guest is untouched, and the others must not suffer
            self._abandon(move, record, HostError(f"{type(error).__name__}: {error}"))
            return
        move.phases.append(Phase(SPAWN.name, round((time.monotonic() - begun) * 1000, 2)))
        uuid = move.facts.uuid
        daemon = Passthrough(f"{move.facts.name} (old QEMU)", lambda: self._domain(uuid))
        if move.plan.mode is Mode.LIVE:
            move.hand_over = copying = Copying(move.plan, move.new, record, watch, daemon)
            copying.timeout_s = self.request.timeout_s or COPY_SECONDS
            copying.downtime_ms = max(1, int(min(DOWNTIME_MS, self.request.max_pause_ms or DOWNTIME_MS)))
        else:
            kind = Parked if move.plan.parked else HandOver
            move.hand_over = kind(move.plan, move.new, record, watch, daemon)

    def _domain(self, uuid: str) -> Domain:
        """By a connection that works: the daemon may have started anew.  Raises HostError."""
        with self._connecting:
            if not self.connection.alive():
                self.connection.close()
                self.connection = Connection(self.request.uri)
        return self.connection.lookup(uuid)

    def _abandon(self, move: Move, record: journal.Journal, cause: Exception) -> None:
        """Give up a move before the hand-over: end new QEMU.  The guest hasn't noticed anything."""
        assert move.plan is not None
        if isinstance(cause, Unsettled):  # new can't be ended: it may have what the guest's helpers had
            move.fail(cause)
            return
        try:
            problems = helpers.give_back(move.plan.helpers)
            if move.new is not None:
                end(move.new, move.plan)
            libvirt_record.clean_up(move.plan.guest)
        except (VirtcprError, OSError) as error:
            move.fail(Unsettled(f"{cause}; {error}", hint="end that process, then try again"))
            return
        self._close(record)
        if not Process(move.plan.pid, move.plan.started).alive():
            move.fail(guest_events.gone(move.plan))
            return
        move.turn_back("; ".join([str(cause), *problems]), getattr(cause, "hint", None))

    def _close(self, record: journal.Journal) -> None:
        try:
            record.close()
        except HostError as error:
            self.notes.append(f"{error.message}: {error.hint}")

    def _swap_all(self, ready: list[Move], watch: Watch, runner: asyncio.Runner) -> None:
        """Give up every move that isn't done before the daemon starts, so that it finds no stray new QEMU."""
        try:
            blackout.refuse_jobs(self.connection)
            self._refuse_interrupted()
            runner.run(self._each(ready, lambda move: move.there.make_new()))
            self._refuse_interrupted()
            if _left(ready):
                self._away(ready, watch, runner)
        except (VirtcprError, OSError) as error:
            self._call_off(ready, error, runner)
            if isinstance(error, DaemonDown):
                self.down = True
                self.notes.append(f"{error.message}: {error.hint}")
        for move in ready:
            watch(Progress(move.facts.name, "done", result=move.result, pause_ms=move.report().pause_ms))

    def _away(self, ready: list[Move], watch: Watch, runner: asyncio.Runner) -> None:
        """The blackout: hand over every guest whose new QEMU is made; the daemon adopts those that were moved."""
        blackout.refuse_jobs(self.connection)
        self.connection.close()
        with blackout.daemon_away(self.recipe, required=True) as away:
            watch(Progress("", AWAY))
            self._alone = True
            try:
                for move in ready:
                    if move.result is Result.UNKNOWN:  # while the daemon was there nothing could be done about it
                        runner.run(self._settle(move))
                self._refuse_interrupted()  # while the daemon was being stopped
                runner.run(self._each(_left(ready), lambda move: move.there.connect()))
                self._refuse_interrupted()
                with _uncollected():
                    runner.run(self._each(_left(ready), lambda move: move.there.hand_over(), at_once=1))
                self._refuse_interrupted()  # those that waited for their turn
            except (VirtcprError, OSError) as error:
                self._call_off(ready, error, runner)
            finally:
                handed = [move for move in ready if move.result is None and move.there.committed and not move.moved]
                runner.run(self._each(handed, self._finish, undoable=False))
                self._alone = False
                self._adopt([move for move in ready if move.moved], away, watch)

    def _call_off(self, moves: list[Move], cause: Exception, runner: asyncio.Runner) -> None:
        runner.run(self._each(_left(moves), lambda move: move.there.call_off(cause), undoable=False))

    def _refuse_interrupted(self) -> None:
        if self.interrupt.requested:
            raise HostError("interrupted")

    async def _each(
        self,
        moves: list[Move],
        action: Callable[[Move], Awaitable[None]],
        at_once: int | None = None,
        *,
        undoable: bool = True,
    ) -> None:
        """Do one part of the hand-over for all of them, some at once.  An interruption cancels what can be undone, and
        never a roll-back, nor what is left to do for a guest that was moved."""
        limit = asyncio.Semaphore(at_once or parallel(self.request))
        loop = asyncio.get_running_loop()
        tasks = {asyncio.create_task(self._one(move, action, limit)): move for move in moves}

        def cancel() -> None:
            for task, move in tasks.items():
                if move.there.interruptible:
                    task.cancel()

        if undoable:
            self.interrupt.on_request = lambda: loop.call_soon_threadsafe(cancel)
        await asyncio.gather(*tasks, return_exceptions=True)
        self.interrupt.on_request = None

    async def _one(self, move: Move, action: Callable[[Move], Awaitable[None]], limit: asyncio.Semaphore) -> None:
        over = move.there
        try:
            async with limit:
                await action(move)
        except VirtcprError as error:
            move.fail(error)
        except Exception as error:  # a defect: the guest's state isn't known, and the others must not suffer
            move.fail(Unsettled(f"{move.facts.name}: {type(error).__name__}: {error}", hint=SETTLE))
        if move.result is Result.UNKNOWN and self._alone:  # now, not when the others are done: its guest may be paused
            await self._settle(move)
        elif move.result not in (None, Result.UNKNOWN):
            self._close(over.journal)
            if over.refusal and move.result is Result.ROLLED_BACK:
                remember_refusal(move.facts, over.plan.mode, over.refusal)

    async def _finish(self, move: Move) -> None:
        await move.there.finish()
        move.moved = True

    async def _settle(self, move: Move) -> None:
        """Settle a swap with an unknown result at once, as ``recover`` does: the daemon is still down."""
        assert move.hand_over is not None
        outcome = await Settlement(move.hand_over.journal).run(dry_run=False)
        if outcome.settled is Settled.UNKNOWN:
            move.stays_unsettled(outcome)
            return
        move.recovered(outcome)

    def _adopt(self, moved: list[Move], away: Away, watch: Watch) -> None:
        """Start the daemon, whatever happened; check that it has every guest that was moved."""
        for move in moved:  # from here on libvirt may change its record of the guest
            assert move.hand_over is not None
            move.hand_over.journal.note(State.ADOPTED)
        try:
            away.end()
            self.connection = reconnect.reconnect(self.request.uri)
            answered = time.monotonic()
            watch(Progress("", BACK))
            guests = {move.facts.uuid: move.new.process for move in moved if move.new}
            missing = reconnect.unlisted(self.connection, guests)
        except (VirtcprError, OSError) as error:
            hint = getattr(error, "hint", None) or BY_HAND
            self.down = True
            self.notes.append(f"{error}: {hint}")
            for move in moved:
                move.fail(Unsettled(f"{error}; the guest runs in new QEMU", hint=hint))
            return
        ended = answered if missing else time.monotonic()
        self.blackout = Blackout(len(moved), round((ended - away.began) * 1000, 1))
        for move in moved:
            move.blackout = self.blackout
            if move.facts.uuid in missing:
                move.fail(_unlisted(move))
            else:
                self._verify(move)

    def _verify(self, move: Move) -> None:
        assert move.new is not None
        assert move.hand_over is not None
        record = move.hand_over.journal
        problems = [*move.hand_over.warnings]
        try:
            domain = self.connection.lookup(move.facts.uuid)
            if domain.state()[0] == "in shutdown":
                raise guest_events.ended_in_new(move.facts.name, move.new.process.pid)
            problems += verify.verify(domain, move.expected, move.new.process.pid, move.hand_over.placement)
            record.note(State.DONE)
        except (VirtcprError, OSError, KeyError, ValueError, TypeError) as error:
            # If new has ended, nothing is left to settle.  A QEMU that libvirt kills closes its monitor before it ends.
            if isinstance(error, Ended) or move.new.process.ends(ownership.DYING_SECONDS):
                self._close(record)
                move.fail(guest_events.ended_in_new(move.facts.name, move.new.process.pid))
                return
            move.fail(Unsettled(f"{error}; the guest runs in new QEMU", hint=SETTLE))
            return
        warnings = [Finding("verify", Severity.WARNING, text, "look at the domain with virsh") for text in problems]
        try:
            record.close()
        except HostError as error:
            warnings.append(Finding("journal", Severity.WARNING, error.message, error.hint or ""))
        move.end(Result.UPGRADED, *warnings)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage is collected: a guest would be paused for longer meanwhile."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _left(moves: list[Move]) -> list[Move]:
    """Those whose guest is in old QEMU, and nobody has said yet that it stays there.

    Recovery may have given one to new QEMU (``moved``) that was never committed: only new has it now.
    """
    return [move for move in moves if move.result is None and not move.there.committed and not move.moved]


def _unlisted(move: Move) -> Unsettled:
    assert move.new is not None
    return Unsettled(
        f"libvirt doesn't list {move.facts.name} as running after the swap; "
        f"the guest runs in new QEMU (process {move.new.process.pid})",
        hint=f"don't start the domain; read the daemon's log, then: virtcpr recover {quote(move.facts.name)}",
    )
