"""Mode transfer, parked: the hand-over of a guest whose devices two QEMUs can't have at once.

The daemon is there while old QEMU hands over the RAM, its guest running.  While the daemon is away the guest is paused,
its state taken and given to the keeper; old ends; new starts, and gets both.  What fails after old's end isn't rolled
back here: settling starts the build that the guest ran in again, with what the keeper has.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace

from virtcpr.actions.monitor import cpr, query
from virtcpr.actions.transfer import guest_events, ownership, place_threads, reconnect_check, stale_fds
from virtcpr.actions.transfer.handover import REFUSED, HandOver
from virtcpr.actions.transfer.ownership import END_SECONDS, MOVE_SECONDS
from virtcpr.actions.transfer.parked.kept import Kept
from virtcpr.actions.transfer.parked.load import Refused, load
from virtcpr.actions.transfer.ways_out import there
from virtcpr.domain import status
from virtcpr.errors import SETTLE, HostError, Unsettled
from virtcpr.host.processes import keeper, oom
from virtcpr.host.processes.keeper import Keeper
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.cpr_channels import Channels, Part
from virtcpr.plan import reconnect
from virtcpr.plan.steps import PARK, SETTLE_IN, TAKE, State, Step


class Parked(HandOver):
    """As ``HandOver``, parked."""

    making, handing_over, finishing = TAKE, PARK, SETTLE_IN

    _channels: Channels | None = None
    _keeper: Keeper | None = None
    _ram: tuple[Part, ...] = ()
    _kept: Kept | None = None
    _places = place_threads.Places({}, {})
    _put = False  # the keeper may have the guest
    _gone = False  # old QEMU is ended, or about to be

    @property
    def _actions(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        own = {"note": self._note, "park": self._park, "load": self._load, "place": self._place_noted}
        return {**super()._actions, **own}

    # The daemon is there.

    async def _set_up(self) -> None:
        await cpr.arm(self._daemon, self.plan.name)
        # Nobody answers on the main channel: old is complete when all is sent.
        await query.set_capabilities(self._daemon, {"return-path": False})
        self._keeper = kept = await asyncio.to_thread(keeper.start, self.plan.uuid)
        self.journal.write(State.SPAWNED, keeper=str(kept.path))

    async def _migrate(self) -> None:
        self._filled = await stale_fds.fill(self._daemon, self.old)
        sockets = self.plan.cpr_socket, self.plan.main_socket
        self._channels = Channels(*sockets, self.plan.guest.lib_dir, MOVE_SECONDS)
        await cpr.migrate(self._daemon, *sockets)
        self._ram = await self._channels.ram()

    async def _note(self) -> None:
        self._expected = await reconnect_check.ask(self._daemon, self.old)
        record = reconnect.recorded(status.read(self.plan.status_xml))
        if differing := reconnect.compare(record, self._expected):
            raise HostError(f"{self.plan.name} isn't as libvirt's record says: {reconnect.words(differing)}")
        self.placement, self._places = await place_threads.note(self.old, self._daemon)
        listed = {what: tuple(sorted(reading)) for what, reading in self._expected.items()}
        self.journal.write(State.MIGRATING, expected=listed)

    # The daemon is away.

    async def _park(self) -> None:
        old, channels = there(self._old), self._channels
        assert channels is not None
        assert self._keeper is not None
        await guest_events.as_planned(self.plan, old)
        self._refuse_dead()
        self._paused_after = time.monotonic()
        channels.hang_up()
        stored = await channels.state()
        assert self.new.spare is not None
        go = os.dup(self.new.spare.go)
        self._kept = Kept(self._ram, stored, go, self._places, self.new.displays, self.plan.replay)
        if await old.migration_end(MOVE_SECONDS) != "completed":
            raise HostError(f"{self.plan.name}: old QEMU can't hand the guest over: {await cpr.reason(old)}")
        if (state := await query.run_state(old)) not in ("finish-migrate", "postmigrate"):
            self.stopped = state if state in guest_events.OWN_STOPS else None
            raise HostError(f"{self.plan.name}: old QEMU is {state} after the hand-over")
        channels.close()
        self._channels = None
        note, fds, made = self._kept.packed()
        self._put = True
        try:
            self._keeper.put(note, fds)
        finally:
            for fd in made:
                os.close(fd)

    def _waiting(self) -> tuple[Process, Process]:
        """New QEMU, and the build that the guest runs in, before they are QEMUs."""
        assert self.new.spare is not None
        return self.new.process, self.new.spare.process

    def _refuse_dead(self) -> None:
        """Nobody talks to them yet, so nobody notices if one has ended.  Raises HostError."""
        if not all(process.alive() for process in self._waiting()):
            raise HostError(f"{self.plan.name}: a process that waits for the guest has ended")

    async def _end_old(self) -> None:
        self._refuse_dead()
        self.interruptible = False
        self._gone = True
        for process in self._waiting():  # they have the guest from here on, if memory runs out
            oom.give(process, self.journal.entry.oom_score_adj)
        await asyncio.to_thread(ownership.end_old, self.plan.guest, self.old)
        # Its devices are free when all of it is gone: a big guest's process is there for seconds still.
        if not await asyncio.to_thread(self.old.goes, END_SECONDS):
            raise HostError(f"{self.plan.name}: old QEMU (process {self.old.pid}) was killed, and isn't gone")

    async def _load(self) -> None:
        assert self._kept is not None
        self.new.begin()
        try:
            name = f"{self.plan.name} (new QEMU)"
            self._new = await load(self.plan.guest, self._kept, self.new.process, name)
        except Refused as error:
            raise HostError(
                f"{self.plan.name}: new QEMU can't load the guest: {error.message}", hint=REFUSED
            ) from error
        answers = await reconnect_check.ask(self._new, self.new.process)
        if differing := reconnect.compare(self._expected or {}, answers):
            await asyncio.to_thread(self.new.process.kill, END_SECONDS)  # else settling would let it run the guest
            raise HostError(
                f"{self.plan.name}: new QEMU isn't the machine that libvirt expects: {reconnect.words(differing)}"
            )
        self.journal.write(State.RECEIVED)
        state = await query.run_state(self._new)
        if self.plan.runs and state in guest_events.OWN_STOPS:
            self.stopped = state
            self.journal.write(State.RECEIVED, guest=replace(self.plan.guest, runs=False))

    async def _commit(self) -> None:
        new = there(self._new)
        if not self.plan.runs or self.stopped is not None:
            return
        await new.execute("cont")
        stopped, resumed = there(self._old).happened("STOP"), new.happened("RESUME")
        self.pause_ms = guest_events.pause(stopped, resumed, time.monotonic() - self._paused_after)

    async def _place_noted(self) -> None:
        self.warnings += await place_threads.give(self._places, self.new.process, there(self._new))
        self.warnings += await place_threads.lead_machine(self.old, self.new.process)

    async def _record(self) -> None:
        self._end_spare()  # libvirt must not find two processes with one monitor
        await super()._record()

    async def finish(self) -> None:
        await super().finish()
        if self._keeper is not None:
            await asyncio.to_thread(self._keeper.end)

    # The ways out.

    async def leave(self, step: Step, cause: BaseException) -> None:
        if not self._gone and (self.old.alive() or not self._put):
            await super().leave(step, cause)
            return
        self.interruptible = False
        words = self.new.words()
        await self.close()
        said = f"; QEMU said: {words}" if words else ""
        raise Unsettled(
            f"{self.plan.name}: '{step.name}' failed after old QEMU had ended: {cause}{said}", hint=SETTLE
        ) from cause

    def _end_new(self) -> list[str]:
        self._end_spare()
        problems = super()._end_new()
        if self._keeper is not None:
            self._keeper.end()
        return problems

    def _end_spare(self) -> None:
        spare = self.new.spare
        if spare is not None and not spare.process.kill(END_SECONDS):
            raise HostError(f"{self.plan.name}: the process for the way back ({spare.process.pid}) can't be killed")

    async def close(self) -> None:
        if self._channels is not None:
            self._channels.close()
            self._channels = None
        if self._kept is not None:
            self._kept = replace(self._kept, displays=())  # new's
            self._kept.close()
            self._kept = None
        else:
            for part in self._ram:
                part.close()
        self._ram = ()
        if self._keeper is not None:
            self._keeper.leave()
        await super().close()
