"""One guest from old QEMU to new, in two stages: new is made while libvirt's daemon is there, and gets the guest while
the daemon is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from virtcpr.actions.monitor import cpr, query
from virtcpr.actions.monitor.displays import show
from virtcpr.actions.transfer import guest_events, libvirt_record, ownership, place_threads, reconnect_check, stale_fds
from virtcpr.actions.transfer.new_qemu import unless_one_dies
from virtcpr.actions.transfer.ownership import ANSWER_SECONDS, MOVE_SECONDS
from virtcpr.actions.transfer.resources import helpers, tcp_ports, vsock
from virtcpr.actions.transfer.resources.taps import Taps
from virtcpr.actions.transfer.ways_out import WaysOut, refuse_stranger, there
from virtcpr.domain import status
from virtcpr.errors import HostError, QmpError
from virtcpr.host.files import atomic
from virtcpr.host.processes import oom
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.model import Phase, Progress
from virtcpr.plan import reconnect
from virtcpr.plan.steps import CONNECT, FINISH, HAND_OVER, MAKE_NEW, Side, State, Step

log = logging.getLogger(__name__)

REFUSED = "shut the domain down and start it, or wait for a QEMU build that accepts it"
START_SECONDS = 30.0  # new QEMU from the CPR channel to its monitor: it makes the whole machine there; the guest runs

T = TypeVar("T")


class HandOver(WaysOut):
    """The hand-over of one domain: ``make_new``, then ``connect``, ``hand_over`` and ``finish``, or else ``call_off``.

    Each of them raises RolledBack: the guest runs in old QEMU as before; new is dead.  Ended: the guest has ended; new
    is dead.  Unsettled: a step failed after the point of no return, or rolling back failed; the journal stays.
    """

    making: Sequence[Step] = MAKE_NEW
    handing_over: Sequence[Step] = HAND_OVER
    finishing: Sequence[Step] = FINISH

    async def make_new(self) -> None:
        """Have new QEMU make its devices, and compare it with old; the guest runs."""
        await self._through(self.making)

    async def connect(self) -> None:
        """Reach old QEMU without the daemon, which is away; the guest runs."""
        await self._through(CONNECT)

    async def hand_over(self) -> None:
        """Give new QEMU the guest.  Nothing else is done meanwhile: this guest alone is paused."""
        await self._through(self.handing_over)

    async def finish(self) -> None:
        """The guest runs in new QEMU: end old, and tell libvirt and systemd-machined."""
        await self._through(self.finishing)
        await self.close()

    async def call_off(self, cause: Exception) -> None:
        """After ``make_new``: the guest stays in old QEMU.  Always raises."""
        await self.leave(CONNECT[0], cause)

    async def _through(self, steps: Sequence[Step]) -> None:
        step = steps[0]
        try:
            for step in steps:
                await self._do(step)
        except (Exception, asyncio.CancelledError) as error:
            await self.leave(step, error)

    @property
    def _actions(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
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
        await query.refuse_migrating(self._daemon, self.plan.name)
        self._told = True
        await self._set_up()
        # As late as possible: the guest changes its taps itself.  New touches them only in the next step.
        self._taps = Taps(self.new.taps)
        self._ports = tcp_ports.note(self.new.ports)
        self.journal.write(State.SPAWNED, taps=self._taps.settings, ports=self._ports, cid=self.plan.cid)

    async def _set_up(self) -> None:
        await cpr.arm(self._daemon, self.plan.name)

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
        self._taken = tcp_ports.take(self.new.ports)
        vsock.take(self.old, self.plan.cid)
        self._cut_off = self.plan.cid is not None
        await cpr.migrate(self._daemon, self.plan.cpr_socket, self.plan.main_socket)

    async def _attach(self) -> None:
        """New listens beside old.  If it has a copy of old's socket, only new accepts clients: old is busy with us."""
        connecting = Monitor.connect(self._new_monitor(), f"{self.plan.name} (new QEMU)", timeout=START_SECONDS)
        self._new = await self._unless_one_dies(connecting)
        self._new.timeout = ANSWER_SECONDS  # per command: the guest will be paused
        await refuse_stranger(self._new, self.new.process)  # it answers, so it has made its devices
        await self._taps.hand_back()
        self.journal.write(State.MIGRATING, taps=())  # a rollback from here on finds them as they must be
        # libvirt sets it when it starts a guest, not when it reconnects, but always waits for these events.
        await query.set_capabilities(self._new, {"events": True})

    def _new_monitor(self) -> str:
        there = Path(self.plan.guest.new_monitor)
        return str(there) if there.exists() else self.plan.status.monitor

    async def _replay(self) -> None:
        for command in self.plan.replay:
            await there(self._new).execute(command.name, command.arguments)

    async def _compare(self) -> None:
        """Before new can have the guest, the journal has what recovery needs to compare."""
        sides = (self.old, self._daemon), (self.new.process, there(self._new))
        self._expected = await reconnect_check.first(self.plan.guest, *sides)
        listed = {what: tuple(sorted(reading)) for what, reading in self._expected.items()}
        self._taps.note()
        self.journal.write(State.MIGRATING, expected=listed, taps=self._taps.settings)

    async def _place(self) -> None:
        """Before the guest is paused: its vCPUs shall run on in their own place, and not all in the emulator's."""
        old, new = (self.old, self._daemon), (self.new.process, there(self._new))
        placed = await place_threads.place(old, new)
        self.placement, self.warnings = placed.old, [*self.warnings, *placed.problems]

    # The daemon is away.

    async def _connect(self) -> None:
        name = f"{self.plan.name} (old QEMU)"
        if not self.old.alive():
            raise guest_events.gone(self.plan)
        monitor = await Monitor.connect(self.plan.status.monitor, name, timeout=ANSWER_SECONDS)
        try:
            await refuse_stranger(monitor, self.old)
        except BaseException:
            await monitor.close()
            raise
        self._old = monitor
        self._refuse_changed()
        await cpr.refuse_ended(monitor, self.plan.name)
        await reconnect_check.unchanged(self.plan.guest, self.old, monitor, self._expected or {})
        self._taps.note()
        self.journal.write(State.MIGRATING, taps=self._taps.settings)

    async def _incoming(self) -> None:
        # A guest that shuts itself down can be left alone until here.
        await guest_events.as_planned(self.plan, there(self._old))
        await show(there(self._new), self.new.displays)  # until now only old has accepted viewers
        self._taps.note()  # since `connect` others were handed over, and the guest may have changed its taps
        self.journal.write(State.INCOMING, taps=self._taps.settings)
        self._taps.hand_over()
        self._paused_after = time.monotonic()
        await cpr.incoming(there(self._new), self.plan.main_socket)

    async def _received(self) -> None:
        old, new = there(self._old), there(self._new)
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
        helpers.there(self.plan.helpers)
        helpers.stop(self.plan.helpers)

    # The point of no return.

    async def _commit(self) -> None:
        new = there(self._new)
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
        stopped, resumed = there(self._old).happened("STOP"), new.happened("RESUME")
        self.pause_ms = guest_events.pause(stopped, resumed, time.monotonic() - self._paused_after)

    # After it.

    async def _machined(self) -> None:
        self.warnings += await place_threads.lead_machine(self.old, self.new.process)

    async def _end_old(self) -> None:
        # If new is gone, only old has the guest.  A process that is being killed is still alive for a moment, but
        # doesn't answer.
        await query.run_state(there(self._new))
        await asyncio.to_thread(ownership.end_old, self.plan.guest, self.old)

    async def _record(self) -> None:
        await libvirt_record.write(self.plan.guest, there(self._new), self.new.process)

    async def _preflight(self) -> None:
        """Over a new connection, as libvirt will connect; the guest runs meanwhile."""
        await there(self._new).close()
        self._new = None
        problems = await reconnect_check.second(self.plan.guest, self.new.process, self._expected)
        if any(problem.kills for problem in problems):
            raise HostError(f"libvirt would kill the guest: {reconnect.words(problems)}")
        self.warnings += [problem.text for problem in problems]

    async def _unless_one_dies(self, action: Coroutine[None, None, T]) -> T:
        return await unless_one_dies(action, self.plan.name, self.old, self.new)
