"""What the twins of a rehearsal do in each mode: how they are started, and how one takes over from the other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Protocol

from virtcpr.actions.monitor import cpr, precopy, query, reboot
from virtcpr.domain import qmp
from virtcpr.domain.argv import CommandLine, successor
from virtcpr.domain.facts import Emulator
from virtcpr.domain.twin import copied_from, copied_to, in_files
from virtcpr.errors import HostError, QmpError, QmpRefused
from virtcpr.host.qemu.cpr_channels import Channels, Part, send_ram, send_state
from virtcpr.host.qemu.qmp import MIGRATION_ENDS, Monitor
from virtcpr.host.qemu.scratch import Directory, Scratch
from virtcpr.model import Mode

RESTING = ("paused", "prelaunch")  # new's run state at the end: the twin never ran in old


class TwinMode(Protocol):
    """A mode, made from the twin's command line, a directory that both of its processes can use, and the emulator that
    new QEMU is started from."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None: ...

    def before(self) -> Sequence[str]:
        """The options of old QEMU, which never runs."""

    def after(self) -> Sequence[str]:
        """The options of new QEMU, which is started at the same time."""

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        """The whole hand-over; ``timeout``, in seconds, holds for each wait in it.

        Raises QmpRefused if new QEMU refuses, HostError if something in old blocks it, and QmpError if nothing is
        known, unless new has ended by itself.
        """


class Transfer:
    """cpr-transfer: side by side, by two sockets."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None:
        self._line = line
        self._cpr, self._main = place.path("cpr.sock"), place.path("main.sock")

    def before(self) -> Sequence[str]:
        return (*self._line.argv()[1:], "-S")

    def after(self) -> Sequence[str]:
        return successor(self._line, "", {}, self._cpr).argv()[1:]

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        await cpr.arm(old, "its twin")
        if not await after.listens(self._cpr, timeout):
            raise QmpError("new QEMU didn't come up")
        await cpr.migrate(old, self._cpr, self._main)
        new = await after.monitor(timeout)
        await query.set_capabilities(new, {"events": True})
        await cpr.incoming(new, self._main)
        if await new.migration_end(timeout) != "completed":
            raise QmpRefused(await cpr.reason(new))
        if await old.migration_end(timeout) != "completed":
            raise HostError(await cpr.reason(old))


class Parked(Transfer):
    """The same by way of this process, which has all of the twin before new gets any of it."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None:
        super().__init__(line, place, emulator)
        self._place = place

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        await cpr.arm(old, "its twin")
        await query.set_capabilities(old, {"return-path": False})
        if not await after.listens(self._cpr, timeout):
            raise QmpError("new QEMU didn't come up")
        sockets = self._place.path("kept-cpr.sock"), self._place.path("kept-main.sock")
        channels = Channels(*sockets, self._place.path("."), timeout)
        with ExitStack() as stack:
            stack.callback(channels.close)
            try:
                await cpr.migrate(old, *sockets)
                ram = await channels.ram()
                for part in ram:
                    stack.callback(part.close)
                channels.hang_up()
                state = await channels.state()
                stack.callback(os.close, state)
            except HostError as error:
                raise QmpError(error.message) from error
            channels.close()
            if await old.migration_end(timeout) != "completed":
                raise HostError(await cpr.reason(old))
            await self._load(ram, state, after, timeout)

    async def _load(self, ram: tuple[Part, ...], state: int, after: Scratch, timeout: float) -> None:
        try:
            channel = await asyncio.to_thread(send_ram, self._cpr, ram, lambda: True)
            with closing(channel):
                new = await after.monitor(timeout)
            await query.set_capabilities(new, {"events": True})
            await cpr.incoming(new, self._main)
            await asyncio.to_thread(send_state, self._main, state, lambda: True)
        except HostError as error:
            raise error if isinstance(error, QmpError) else QmpError(error.message) from error
        if await new.migration_end(timeout) != "completed":
            raise QmpRefused(await cpr.reason(new))


class Live:
    """An ordinary migration, into shared RAM: side by side, by a socket.  RAM, never touched, has no pages."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None:
        self._line = line
        self._main = place.path("main.sock")

    def before(self) -> Sequence[str]:
        return (*copied_from(self._line).argv()[1:], "-S")

    def after(self) -> Sequence[str]:
        return successor(copied_to(self._line), "", {}, None).argv()[1:]

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        await precopy.arm(old, "its twin")
        new = await after.monitor(timeout)
        await precopy.begin(old, new, self._main, held=False)
        if await old.migration_is(("pre-switchover", *MIGRATION_ENDS), timeout) == "pre-switchover":
            await precopy.go_on(old)
        if await new.migration_end(timeout) != "completed":
            raise QmpRefused(await cpr.reason(new))
        if await old.migration_end(timeout) != "completed":
            raise HostError(await cpr.reason(old))


class Reboot:
    """cpr-reboot: by a file.  RAM, never touched, is in files of its own, so that the save takes no time."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None:
        self._line = in_files(line, place.path("ram"))
        self._uri = f"file:{place.path('state')}"
        self._emulator = emulator

    def before(self) -> Sequence[str]:
        return (*self._line.argv()[1:], "-S")

    def after(self) -> Sequence[str]:
        return (*self.before(), "-incoming", "defer")

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        await _execute(old, reboot.save_settings(ignore_shared=True))
        if reasons := qmp.blocked_reasons(await old.execute("query-migrate")):
            raise HostError(f"its twin: QEMU refuses: {'; '.join(reasons)}")
        await _execute(old, [reboot.migrate(self._uri)])
        if await old.migration_end(timeout) != "completed":
            # The guest would run on; and the cause may be a lack of room, where only the twin's state is written.
            raise QmpError(f"its state can't be saved: {await cpr.reason(old)}")
        new = await after.monitor(timeout)
        await _execute(new, reboot.load_settings(ignore_shared=True))
        await _execute(new, [reboot.incoming(self._uri, self._emulator)])
        if await new.migration_end(timeout) != "completed":
            raise QmpRefused(await cpr.reason(new))
        if (state := await query.run_state(new)) not in RESTING:
            raise QmpRefused(f"new QEMU has all of its state, but is {state}")


async def _execute(side: Monitor, commands: Iterable[reboot.Command]) -> None:
    for command, arguments in commands:
        await side.execute(command, arguments)


MODES: Mapping[Mode, type[TwinMode]] = {Mode.TRANSFER: Transfer, Mode.LIVE: Live, Mode.REBOOT: Reboot}


class AfterLive(Transfer):
    """The way back from mode live: the copy of the guest's RAM is shared, so mode transfer can take it."""

    def __init__(self, line: CommandLine, place: Directory, emulator: Emulator) -> None:
        super().__init__(copied_to(line), place, emulator)

    async def hand_over(self, old: Monitor, after: Scratch, timeout: float) -> None:
        await precopy.settle(old)
        await super().hand_over(old, after, timeout)


WAYS_BACK: Mapping[Mode, type[TwinMode]] = {Mode.TRANSFER: Transfer, Mode.LIVE: AfterLive, Mode.REBOOT: Reboot}
