"""One guest from old QEMU to new, in two stages: new is made while libvirt's daemon is there, and gets the guest while
the daemon is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from virtcpr.actions.monitor import cpr, query
from virtcpr.actions.monitor.passthrough import Passthrough
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import guest_events, libvirt_record, ownership, place_threads, reconnect_check, stale_fds
from virtcpr.actions.transfer.new_qemu import NewQemu, end, unless_one_dies
from virtcpr.actions.transfer.ownership import ANSWER_SECONDS, END_SECONDS, MOVE_SECONDS
from virtcpr.actions.transfer.taps import Taps
from virtcpr.domain import status
from virtcpr.errors import SETTLE, Ended, HostError, QmpError, RolledBack, Unsettled, VirtcprError
from virtcpr.host.files import atomic
from virtcpr.host.processes import oom
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor, Qmp
from virtcpr.host.system.paths import PATHS
from virtcpr.model import Phase, Progress
from virtcpr.plan import reconnect
from virtcpr.plan.placement import Placement
from virtcpr.plan.reconnect import Answers
from virtcpr.plan.steps import FINISH, HAND_OVER, MAKE_NEW, Side, State, Step
from virtcpr.plan.transfer import Plan

log = logging.getLogger(__name__)

REFUSED = "shut the domain down and start it, or wait for a QEMU build that accepts it"
START_SECONDS = 30.0  # new QEMU from the CPR channel to its monitor: it makes the whole machine there; the guest runs

T = TypeVar("T")


class HandOver:
    """The hand-over of one domain: ``make_new``, then ``hand_over`` and ``finish``, or else ``call_off``.

    Each of them raises RolledBack: the guest runs in old QEMU as before; new is dead.  Ended: the guest has ended; new
    is dead.  Unsettled: a step failed after the point of no return, or rolling back failed; the journal stays.
    """

    def __init__(
        self,
        plan: Plan,
        new: NewQemu,
        journal: Journal,
        watch: Callable[[Progress], None],
        daemon: Passthrough,
    ) -> None:
        """``daemon``: libvirt's, which passes on commands to old QEMU."""
        self.plan = plan
        self.new = new
        self.journal = journal
        self.watch = watch
        self.old = Process(plan.pid, plan.started)
        self.committed = False
        self.interruptible = True  # before the point of no return, and not yet on the way back
        self.phases: list[Phase] = []
        self.warnings: list[str] = []
        self.placement: Placement | None = None  # of old QEMU, while it was alive
        self.pause_ms: float | None = None
        self.refusal: str | None = None  # why new can't load the guest's state, in its own words
        self.stopped: str | None = None  # the guest's run state in new, if it had stopped by itself
        self._told = False  # old QEMU's settings may have been changed
        self._paused_after = 0.0  # on the monotonic clock
        self._daemon = daemon
        self._old: Monitor | None = None  # once the daemon is away
        self._new: Monitor | None = None
        self._taps = Taps()
        self._filled: tuple[str, ...] = ()
        self._expected: Answers | None = None
        self._actions = self._bind()

    async def make_new(self) -> None:
        """Have new QEMU make its devices, and compare it with old; the guest runs."""
        step = MAKE_NEW[0]
        try:
            for step in MAKE_NEW:
                await self._do(step)
        except (Exception, asyncio.CancelledError) as error:
            await self._give_up(step, error)

    async def hand_over(self) -> None:
        """Give new QEMU the guest.  The daemon is away, and nothing else is done: this guest alone is paused."""
        step = HAND_OVER[0]
        try:
            for step in HAND_OVER:
                await self._do(step)
        except (Exception, asyncio.CancelledError) as error:
            if self.committed:
                await self._go_on(step, error)
            await self._give_up(step, error)

    async def finish(self) -> None:
        """The guest runs in new QEMU: end old, and tell libvirt and systemd-machined."""
        step = FINISH[0]
        try:
            for step in FINISH:
                await self._do(step)
        except (Exception, asyncio.CancelledError) as error:
            await self._go_on(step, error)
        await self._close()

    async def call_off(self, cause: Exception) -> None:
        """After ``make_new``: the guest stays in old QEMU.  Always raises."""
        await self._give_up(HAND_OVER[0], cause)

    async def _go_on(self, step: Step, cause: BaseException) -> None:
        try:
            await self._go_forward(step, cause)
        finally:
            await self._close()

    async def _give_up(self, step: Step, cause: BaseException) -> None:
        self.interruptible = False
        try:
            await self._roll_back(step, cause)
        finally:
            await self._close()

    def _bind(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The method for each step, by the step's name."""
        return {
            "arm": self._arm,
            "migrate": self._migrate,
            "attach": self._attach,
            "replay": self._replay,
            "compare": self._compare,
            "place": self._place,
            "connect": self._connect,
            "incoming": self._incoming,
            "received": self._received,
            "commit": self._commit,
            "machined": self._machined,
            "end-old": self._end_old,
            "record": self._record,
            "preflight": self._preflight,
        }

    async def _do(self, step: Step) -> None:
        self.watch(Progress(self.plan.name, step.name, pause_ms=self.pause_ms))
        if step.announce is not None:
            (self.journal.note if self.committed else self.journal.write)(step.announce)
        if step.side is Side.AT:
            self.committed, self.interruptible = True, False
        begun = time.monotonic()
        await self._actions[step.name]()
        self.phases.append(Phase(step.name, round((time.monotonic() - begun) * 1000, 2)))

    # The daemon is there.

    async def _arm(self) -> None:
        self._refuse_changed()
        await guest_events.as_planned(self.plan, self._daemon)
        self._told = True
        await cpr.arm(self._daemon, self.plan.name)
        # As late as possible: the guest changes its taps itself.  New touches them only from `migrate` on.
        self._taps = Taps(self.new.taps)
        self.journal.write(State.SPAWNED, taps=self._taps.settings)

    def _refuse_changed(self) -> None:
        """Raises Ended or HostError if it isn't the domain any more that was planned for."""
        if not self.old.alive():
            raise guest_events.gone(self.plan)
        now = atomic.read_text(Path(self.plan.status_path))
        changed = status.changes(self.plan.status_xml, now)
        if changed:
            what = ", ".join(changed[:3])
            raise HostError(f"{self.plan.name} changed between planning and the swap ({what})", hint="try again")

    async def _migrate(self) -> None:
        self._filled = await stale_fds.fill(self._daemon, self.old)
        self._taps.keep()
        await cpr.migrate(self._daemon, self.plan.cpr_socket, self.plan.main_socket)

    async def _attach(self) -> None:
        """New listens beside old.  If it has a copy of old's socket, only new accepts clients: old is busy with us."""
        connecting = Monitor.connect(self._new_monitor(), f"{self.plan.name} (new QEMU)", timeout=START_SECONDS)
        self._new = await self._unless_one_dies(connecting)
        self._new.timeout = ANSWER_SECONDS  # per command: the guest will be paused
        await _is(self._new, self.new.process)  # it answers, so it has made its devices
        await self._taps.hand_back()
        self.journal.write(State.MIGRATING, taps=())  # a rollback from here on finds them as they must be
        # libvirt sets it when it starts a guest, not when it reconnects, but always waits for these events.
        await query.set_capabilities(self._new, {"events": True})

    def _new_monitor(self) -> str:
        there = Path(self.plan.guest.new_monitor)
        return str(there) if there.exists() else self.plan.status.monitor

    async def _replay(self) -> None:
        for command in self.plan.replay:
            await _there(self._new).execute(command.name, command.arguments)

    async def _compare(self) -> None:
        """Before new can have the guest, the journal has what recovery needs to compare."""
        sides = (self.old, self._daemon), (self.new.process, _there(self._new))
        self._expected = await reconnect_check.first(self.plan.guest, *sides)
        listed = {what: tuple(sorted(reading)) for what, reading in self._expected.items()}
        self._taps.note()
        self.journal.write(State.MIGRATING, expected=listed, taps=self._taps.settings)

    async def _place(self) -> None:
        """Before the guest is paused: its vCPUs shall run on in their own place, and not all in the emulator's."""
        old, new = (self.old, self._daemon), (self.new.process, _there(self._new))
        placed = await place_threads.place(old, new)
        self.placement, self.warnings = placed.old, [*self.warnings, *placed.problems]

    # The daemon is away.

    async def _connect(self) -> None:
        name = f"{self.plan.name} (old QEMU)"
        if not self.old.alive():
            raise guest_events.gone(self.plan)
        monitor = await Monitor.connect(self.plan.status.monitor, name, timeout=ANSWER_SECONDS)
        try:
            await _is(monitor, self.old)
        except BaseException:
            await monitor.close()
            raise
        self._old = monitor
        self._refuse_changed()
        await cpr.refuse_ended(monitor, self.plan.name)
        await reconnect_check.unchanged(self.plan.guest, self.old, monitor, self._expected or {})
        self._taps.note()
        self.journal.write(State.MIGRATING, taps=self._taps.settings)
        await self._show()

    async def _show(self) -> None:
        """Give new QEMU the display's sockets: until now only old has accepted viewers."""
        new, names = _there(self._new), []
        for number, fd in enumerate(self.new.displays):
            names.append(f"virtcpr-display{number}")
            await new.execute("getfd", {"fdname": names[-1]}, fd=fd)
        if names:
            addresses = [{"type": "fd", "str": name} for name in names]
            await new.execute("display-update", {"type": "vnc", "addresses": addresses})

    async def _incoming(self) -> None:
        # A guest that shuts itself down can be left alone until here.
        await guest_events.as_planned(self.plan, _there(self._old))
        self._taps.hand_over()
        self._paused_after = time.monotonic()
        await cpr.incoming(_there(self._new), self.plan.main_socket)

    async def _received(self) -> None:
        old, new = _there(self._old), _there(self._new)
        deadline = time.monotonic() + MOVE_SECONDS
        arrived = await self._unless_one_dies(new.migration_end(MOVE_SECONDS))
        if arrived != "completed":
            self.refusal = await cpr.reason(new)
            raise HostError(f"{self.plan.name}: new QEMU can't load the guest: {self.refusal}", hint=REFUSED)
        left = await old.migration_end(max(deadline - time.monotonic(), 0.1))
        if left != "completed":
            raise HostError(f"{self.plan.name}: old QEMU can't hand the guest over: {await cpr.reason(old)}")
        states = await asyncio.gather(query.run_state(old), query.run_state(new))
        # Old reports the end just before it leaves finish-migrate (migration_iteration_finish); in neither state can
        # it run by itself.  If the guest has stopped since the last check, only new shows it.
        if self.plan.runs and states[1] in guest_events.OWN_STOPS:
            self.stopped = states[1]
            # Recovery must not resume it.
            self.journal.write(State.RECEIVED, guest=replace(self.plan.guest, runs=False))
        if states[0] not in ("finish-migrate", "postmigrate") or states[1] not in ("paused", self.stopped):
            raise HostError(f"{self.plan.name}: old QEMU is {states[0]} and new {states[1]} after the hand-over")

    # The point of no return.

    async def _commit(self) -> None:
        new = _there(self._new)
        # From here on new is the one that must live, if memory runs out.
        oom.give(self.new.process, self.journal.entry.oom_score_adj)
        oom.give(self.old, oom.EXPENDABLE)
        if not self.plan.runs or self.stopped is not None:
            return
        try:
            await new.execute("cont")
        except QmpError:
            if await query.run_state(new) == "paused":
                self.committed = False  # it refused and never ran: old can still get the guest back
                self.journal.note(State.RECEIVED)
            raise
        stopped, resumed = _there(self._old).happened("STOP"), new.happened("RESUME")
        self.pause_ms = guest_events.pause(stopped, resumed, time.monotonic() - self._paused_after)

    # After it.

    async def _machined(self) -> None:
        self.warnings += await place_threads.lead_machine(self.old, self.new.process)

    async def _end_old(self) -> None:
        # If new is gone, only old has the guest.  A process that is being killed is still alive for a moment, but
        # doesn't answer.
        await query.run_state(_there(self._new))
        await asyncio.to_thread(ownership.end_old, self.old)

    async def _record(self) -> None:
        await libvirt_record.write(self.plan.guest, _there(self._new), self.new.process)

    async def _preflight(self) -> None:
        """Over a new connection, as libvirt will connect; the guest runs meanwhile."""
        await _there(self._new).close()
        self._new = None
        problems = await reconnect_check.second(self.plan.guest, self.new.process, self._expected)
        if any(problem.kills for problem in problems):
            raise HostError(f"libvirt would kill the guest: {reconnect.words(problems)}")
        self.warnings += [problem.text for problem in problems]

    # Ways out.

    async def _roll_back(self, step: Step, cause: BaseException) -> None:
        """Kill new, let old run again, leave nothing behind.  Always raises: RolledBack, Ended or Unsettled."""
        why = cause.message if isinstance(cause, VirtcprError) else "interrupted" if _interrupted(cause) else str(cause)
        output = self.new.words()
        name = self.plan.name
        guest = "is where it was"
        try:
            await self._taps.let_go()
            if await self._is_news_alone():
                raise HostError("old QEMU is gone or doesn't answer, and new has all of the guest")
            await asyncio.to_thread(self._end_new)
            if self._old is None and (isinstance(cause, Ended) or not self.old.alive()):
                raise cause if isinstance(cause, Ended) else guest_events.gone(self.plan)
            if not self.old.alive():
                raise HostError("old QEMU has ended, and the guest with it")
            oom.give(self.old, self.journal.entry.oom_score_adj)
            if self._told:  # else libvirt's daemon, which may be busy with it, needn't be asked for anything
                old = await self._reach_old()
                guest = await self._resume(old)
                self._measure()
                await stale_fds.let_go(old, self._filled)
            self.journal.note(State.ROLLED_BACK)
        except Ended:
            raise
        except Exception as error:
            raise Unsettled(
                f"{name}: '{step.name}' failed ({why}), and rolling back failed, too: {error}; old QEMU is process "
                f"{self.old.pid}",
                hint=SETTLE,
            ) from cause
        words = f"; QEMU said: {output}" if output and output not in why else ""
        if self.refusal is not None:  # its log says more than its answer
            self.refusal += words
        hint = cause.hint if isinstance(cause, VirtcprError) else None
        raise RolledBack(
            f"{why}{words}; the guest {guest} in old QEMU (process {self.old.pid})",
            hint=hint or f"see the domain's log in {PATHS.qemu_log}; try again once the cause is removed",
        ) from cause

    async def _is_news_alone(self) -> bool:
        """Whether new has all of the guest and old can't get it back: killing new would lose it, so nothing is done.

        Recovery then gives the guest to new, once old is dead.
        """
        if self._new is None or self._old is None or (self.old.alive() and await query.answers(self._old)):
            return False
        return self.new.process.alive() and await query.has_all(self._new)

    async def _reach_old(self) -> Qmp:
        """Old QEMU's own monitor, or libvirt's daemon, as long as that answers.  Raises QmpError."""
        if self._old is not None:
            return self._old
        self._daemon.renew()
        try:
            await query.run_state(self._daemon)
        except QmpError:
            name = f"{self.plan.name} (old QEMU)"
            self._old = await Monitor.connect(self.plan.status.monitor, name, timeout=ANSWER_SECONDS)
            await _is(self._old, self.old)
            return self._old
        return self._daemon

    async def _resume(self, old: Qmp) -> str:
        """Let old run the guest again, unless it has stopped by itself.  Returns what it does now.  Raises Ended."""
        if self.stopped is None:
            moved = self._paused_after > 0  # else it was its user who paused it
            guest = await ownership.resume_old(self.plan.guest, old, moved=moved)
        else:  # `cont` would wake a guest that has shut itself down
            await ownership.resume_old(replace(self.plan.guest, runs=False), old)
            guest = f"had stopped ({self.stopped}) and is paused"
        if await query.run_state(old) == "shutdown":
            self.journal.note(State.ROLLED_BACK)
            raise guest_events.shut_down(self.plan)
        return guest

    def _measure(self) -> None:
        """The pause of a guest that was paused for a hand-over, and runs on in old."""
        if self._paused_after and self.plan.runs and self.stopped is None:
            old = _there(self._old)
            longest = time.monotonic() - self._paused_after
            self.pause_ms = guest_events.pause(old.happened("STOP"), old.happened("RESUME"), longest)

    def _end_new(self) -> None:
        """Kill new QEMU; if it may have opened the taps, put their settings back."""
        if not self.new.process.kill(END_SECONDS):
            raise HostError(f"{self.plan.name}: new QEMU (process {self.new.process.pid}) can't be killed")
        self._taps.restore()
        end(self.new, self.plan)
        libvirt_record.clean_up(self.plan.guest)

    async def _go_forward(self, step: Step, cause: BaseException) -> None:
        """After the point of no return: old must not outlive this, and libvirt must find new.  Raises Unsettled.

        With two live processes behind one monitor socket, libvirt would take either by chance.
        """
        problems = [f"'{step.name}' failed: {cause}"]
        lost = isinstance(cause, QmpError)  # new may be about to end, too; then only old is left
        if await asyncio.to_thread(self.new.process.ends, ownership.DYING_SECONDS if lost else 0):
            problems.append(f"new QEMU has ended; old (process {self.old.pid}) must not resume if new ever ran")
        elif self._new is not None:  # else libvirt's record is written already
            try:
                await asyncio.to_thread(ownership.end_old, self.old)
                await ownership.run_new(self.plan.guest, _there(self._new))
                await self._record()
            except Exception as error:
                problems.append(str(error))
        raise Unsettled(
            f"{self.plan.name}: the guest was handed to new QEMU (process {self.new.process.pid}), then "
            + "; ".join(problems),
            hint=SETTLE,
        ) from cause

    async def _unless_one_dies(self, action: Coroutine[None, None, T]) -> T:
        return await unless_one_dies(action, self.plan.name, self.old, self.new)

    async def _close(self) -> None:
        await self._taps.let_go()
        for monitor in (self._old, self._new):
            if monitor is not None:
                try:
                    await monitor.close()
                except Exception as error:  # what became of the guest is decided already
                    log.warning("%s: closing the monitor: %s", self.plan.name, error)
        self.new.release()


def _there(monitor: Monitor | None) -> Monitor:
    assert monitor is not None, "steps run in the order of the plan"
    return monitor


def _interrupted(cause: BaseException) -> bool:
    return isinstance(cause, asyncio.CancelledError | KeyboardInterrupt)


async def _is(monitor: Monitor, process: Process) -> None:
    """Check that the monitor belongs to this process.  Raises HostError."""
    if not await query.belongs(monitor, process):
        raise HostError(f"{monitor.name}: another process than {process.pid} answers on its monitor")
