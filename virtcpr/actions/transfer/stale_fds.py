"""Stale descriptor numbers in old QEMU's table for CPR.

It notes the descriptors of RAM that it hands over by name, and forgets to strike out those of a device that was
detached: without its bus the device has another name by then (system/physmem.c, qemu_ram_free and cpr_name; seen in
10.0 with the boot ROM of a network card).  Handing one over fails, "Bad file descriptor", and with it the swap.  The
kernel gives the lowest free number to whoever opens something: old gets empty memory for each, which is also what new
needs behind such a name if another device is plugged in there.

Where nobody moves it, old itself takes the stale number for the ROM of the next device there (qemu_ram_alloc_internal):
it closed a tap's queue, and wrote the ROM into a disk image.  So ``prepare`` takes boot ROMs away.  A stale number that
is a disk image's by now goes to new as it is, which runs no other risk with it than old does.
"""

from __future__ import annotations

import os
from contextlib import suppress

from virtcpr.errors import HostError, QmpError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor

MARGIN = 32  # numbers above its highest that it may have had open before
MOST = 1024  # a QEMU that its guest has taken over may have opened one as high as it likes, and the daemon is down


async def fill(old: Monitor, process: Process) -> tuple[str, ...]:
    """Give old an empty memfd for every number that is free; the names to be given to ``let_go``.

    Raises HostError where it refuses.
    """
    try:
        numbers = process.fd_targets().keys()
    except OSError as error:
        raise HostError(f"process {process.pid} can't be examined: {error.strerror}") from error
    free = min(max(numbers, default=0) + 1 - len(numbers) + MARGIN, MOST)
    names = tuple(f"virtcpr-free{number}" for number in range(free))
    for name in names:
        fd = os.memfd_create(name)
        try:
            await old.execute("getfd", {"fdname": name}, fd=fd)
        finally:
            os.close(fd)
    return names


async def let_go(old: Monitor, names: tuple[str, ...]) -> None:
    """Take them back: the guest stays in old.  Raises nothing: that they are left is no reason to stop there."""
    with suppress(QmpError):
        for name in names:
            await old.execute("closefd", {"fdname": name})
