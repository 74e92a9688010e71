"""Mode live: the hand-over of a guest whose RAM can't be handed over, and is copied instead.

Everything else is as in mode transfer: new QEMU is made while libvirt's daemon is there, the guest runs while its RAM
is copied, and the daemon is away only from when little is left of it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from virtcpr.actions.monitor import precopy
from virtcpr.actions.monitor.displays import show
from virtcpr.actions.monitor.precopy import Copied
from virtcpr.actions.transfer import guest_events
from virtcpr.actions.transfer.handover import HandOver
from virtcpr.actions.transfer.resources import tcp_ports
from virtcpr.actions.transfer.ways_out import there
from virtcpr.errors import HostError, QmpError
from virtcpr.host.qemu.qmp import MIGRATION_ENDS
from virtcpr.model import Progress
from virtcpr.plan.steps import MAKE_COPY, SWITCH, State

POLL = 0.005  # s between two looks at how much is left
SHOWN_EVERY = 2.0  # s between two lines of progress
SWITCH_SECONDS = 10.0  # from when the daemon is away until the guest is paused
COPY_SECONDS = 600.0  # for RAM, if nobody says otherwise; the guest runs
DOWNTIME_MS = 300  # QEMU's default
# So much is left for when the daemon is away, so that QEMU doesn't come to the end between two looks.  Pages of zeroes
# go by ten times as fast as others, and nobody knows where they are.
LEFT = 256 << 20
KEEPS_UP = 0.5  # of the rate at which RAM is copied: a guest that writes faster isn't ready to be switched over
# Bytes a second.  Every host copies faster; and with a guest that writes more QEMU doesn't come to the end by itself.
LIVELY = 16 << 20


class Copying(HandOver):
    """As ``HandOver``, in mode live."""

    making, handing_over = MAKE_COPY, SWITCH
    timeout_s = COPY_SECONDS
    downtime_ms = DOWNTIME_MS

    @property
    def _actions(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {**super()._actions, "make": self._make, "copy": self._copy, "switch": self._switch}

    async def _set_up(self) -> None:
        await precopy.arm(self._daemon, self.plan.name)

    async def _make(self) -> None:
        self._taps.keep()
        self._taken = tcp_ports.take(self.new.ports)
        self._sampling = precopy.Sampling(self._daemon)
        await self._sampling.begin()
        self.new.begin()

    async def _copy(self) -> None:
        """Return when little is left, and QEMU is held up."""
        small = await precopy.size(self._daemon) <= 2 * LEFT
        held = small and await self._sampling.most() < LIVELY
        await precopy.begin(self._daemon, there(self._new), self.plan.main_socket, held=held)
        self._refuse_changed()  # from here on QEMU lets nobody attach a device, which would be copied in vain
        if not held:
            await self._unless_one_dies(self._copied())

    async def _copied(self) -> None:
        begun = shown = time.monotonic()
        fastest = 0.0
        while True:
            now = await precopy.look(self._daemon)
            if now.status == "pre-switchover":
                raise HostError(f"{self.plan.name} was copied before libvirt's daemon was away", hint="try again")
            if now.status in MIGRATION_ENDS:
                raise HostError(f"{self.plan.name} can't be copied: {now.why or now.status}")
            fastest = max(fastest, now.rate)
            await self._sampling.look()
            if now.status == "active" and now.remaining <= LEFT and await self._hold(now, fastest):
                return
            if time.monotonic() - begun > self.timeout_s:
                rates = _rates(await self._writes(now), fastest)
                raise HostError(
                    f"{self.plan.name} isn't copied within {self.timeout_s:g} s: {rates}",
                    hint="try again when the guest writes less, or: virtcpr upgrade --mode live --timeout SECONDS",
                )
            if time.monotonic() - shown > SHOWN_EVERY:
                shown = time.monotonic()
                self.watch(Progress(self.plan.name, "copy", text=_progress(now)))
            await asyncio.sleep(POLL)

    async def _hold(self, now: Copied, fastest: float) -> bool:
        """Hold QEMU up, unless the guest writes too fast: then what is left would take too long later, too."""
        waits = now.passes <= 1 and self._sampling.writes is None
        if waits:  # a second, in which QEMU would come to the end
            await precopy.hold(self._daemon)
        if await self._writes(now) <= max(LIVELY, KEEPS_UP * fastest):
            await precopy.hold(self._daemon)
            return True
        if waits:
            await precopy.go_faster(self._daemon)
        return False

    async def _writes(self, now: Copied) -> float:
        """Bytes a second that the guest writes."""
        return now.dirtied if now.passes > 1 else await self._sampling.most()

    async def _switch(self) -> None:
        old = there(self._old)
        await guest_events.as_planned(self.plan, old)
        await show(there(self._new), self.new.displays)
        self._taps.note()
        self.journal.write(State.INCOMING, taps=self._taps.settings)
        self._paused_after = time.monotonic()
        await precopy.release(old, self.downtime_ms)
        reached = await self._unless_one_dies(old.migration_is(("pre-switchover", *MIGRATION_ENDS), SWITCH_SECONDS))
        if reached != "pre-switchover":
            raise HostError(f"{self.plan.name} can't be copied: {(await precopy.look(old)).why or reached}")
        self._taps.hand_over()
        await precopy.go_on(old)

    async def _commit(self) -> None:
        await super()._commit()
        try:
            await precopy.settle(there(self._new))
        except QmpError as error:
            self.warnings.append(f"a capability of its migrations stays on: {error.message}")


def _progress(now: Copied) -> str:
    done = 100 * (1 - now.remaining / now.total) if now.total else 0
    left = f", {now.remaining / now.rate:.0f} s left" if now.rate else ""
    return f"{done:.0f} % copied, {now.rate / (1 << 20):.0f} MiB/s{left}"


def _rates(writes: float, fastest: float) -> str:
    return f"its guest writes {writes / (1 << 20):.0f} MiB/s, and QEMU copies {fastest / (1 << 20):.0f} MiB/s at most"
