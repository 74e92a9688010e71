"""Give a QEMU that waits a guest that no QEMU has."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

from virtcpr.actions.monitor import cpr, query
from virtcpr.actions.monitor.displays import show
from virtcpr.actions.transfer.new_qemu import until_ended
from virtcpr.actions.transfer.ownership import ANSWER_SECONDS, MOVE_SECONDS
from virtcpr.actions.transfer.parked.kept import Kept
from virtcpr.errors import HostError, QmpError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.cpr_channels import send_ram, send_state
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.plan.guest import Guest

START_SECONDS = 30.0  # from the CPR channel to the monitor: it makes the whole machine there
POLL = 0.02
T = TypeVar("T")


class Refused(HostError):
    """QEMU can't load the guest's state; the message is its reason."""


async def load(guest: Guest, kept: Kept, process: Process, name: str) -> Monitor:
    """Return the monitor of the QEMU that was just let go, when it has the guest, paused.

    ``name``: of the process, for messages.  Raises Refused and HostError; the process may live then, without the guest.
    """
    cpr_socket, main_socket = guest.sockets
    channel = await asyncio.to_thread(send_ram, cpr_socket, kept.ram, process.alive)
    try:
        monitor = await _unless_it_dies(_connected(_monitor(guest), name), process, name)
    finally:
        channel.close()
    try:
        monitor.timeout = ANSWER_SECONDS
        if not await query.belongs(monitor, process):
            raise HostError(f"{name}: another process than {process.pid} answers on its monitor")
        await query.set_capabilities(monitor, {"events": True})
        for command in kept.commands:
            await monitor.execute(command.name, command.arguments)
        await show(monitor, kept.displays)
        await cpr.incoming(monitor, main_socket)
        await asyncio.to_thread(send_state, main_socket, kept.state, process.alive)
        if await monitor.migration_end(MOVE_SECONDS) != "completed":
            raise Refused(await cpr.reason(monitor))
    except BaseException:
        await monitor.close()
        raise
    return monitor


async def _connected(path: str, name: str) -> Monitor:
    """Raises QmpError if nobody answers.

    Whoever wanted another process on the same socket, which ended before it accepted, has its place in the queue still:
    while that is full, Linux refuses.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return await Monitor.connect(path, name, timeout=max(deadline - time.monotonic(), POLL))
        except QmpError:
            if time.monotonic() > deadline:
                raise
        await asyncio.sleep(POLL)


async def _unless_it_dies(action: Coroutine[None, None, T], process: Process, name: str) -> T:
    """Await the action, but not beyond the process's end: another has its sockets, too, and doesn't answer there."""
    task, watcher = asyncio.ensure_future(action), asyncio.create_task(until_ended(process))
    try:
        await asyncio.wait((task, watcher), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return await task
        raise HostError(f"{name} has ended")
    finally:
        for waiting in (task, watcher):
            waiting.cancel()


def _monitor(guest: Guest) -> str:
    """Beside old QEMU's; where a killed virtcpr had come further, in its place."""
    return guest.new_monitor if Path(guest.new_monitor).exists() else guest.monitor
