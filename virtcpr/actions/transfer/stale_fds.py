"""Stale descriptor numbers in old QEMU's table for CPR.

The table has, by name, the descriptors of RAM that QEMU hands over.  QEMU doesn't remove those of a detached device:
without its bus the device has another name by then (system/physmem.c, qemu_ram_free and cpr_name; seen in 10.0 with the
boot ROM of a network card).  Handing over a stale number fails with "Bad file descriptor", and with it the swap.  So
old gets an empty memfd for every free number, as the kernel always gives out the lowest.  Empty memory is also what new
needs behind such a name if another device is plugged in there.

Without a swap, old itself uses the stale number for the ROM of the next device there (qemu_ram_alloc_internal): it has
closed a tap's queue, and written the ROM into a disk image.  So ``prepare`` takes boot ROMs away.  A stale number that
is now a disk image's goes to new unchanged: the risk is the same as in old.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress

from virtcpr.errors import HostError, QmpError, QmpRefused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Qmp

NAME = "virtcpr-free"
OURS = re.compile(rf"/memfd:({NAME}\d+) \(deleted\)$")
MARGIN = 32  # numbers above the highest open one that may have been open before
MOST = 1024  # a QEMU that its guest has taken over may have opened any number, and the daemon is down


async def fill(old: Qmp, process: Process) -> tuple[str, ...]:
    """Give old an empty memfd for every free number.  Returns their names, for ``let_go``.

    Raises HostError if old refuses; it has none of them then.
    """
    # A run that was killed left them.  QEMU would close one of them for each new one of its name.
    await let_go(old, tuple(found[1] for target in _targets(process).values() if (found := OURS.match(target))))
    numbers = _targets(process).keys()
    free = min(max(numbers, default=0) + 1 - len(numbers) + MARGIN, MOST)
    names = tuple(f"{NAME}{number}" for number in range(free))
    for given, name in enumerate(names):
        fd = os.memfd_create(name)
        try:
            await old.execute("getfd", {"fdname": name}, fd=fd)
        except BaseException:
            await let_go(old, names[:given])
            raise
        finally:
            os.close(fd)
    return names


def _targets(process: Process) -> dict[int, str]:
    try:
        return process.fd_targets()
    except OSError as error:
        raise HostError(f"process {process.pid} can't be examined: {error.strerror}") from error


async def let_go(old: Qmp, names: tuple[str, ...]) -> None:
    """Take them back: the guest stays in old.  Raises nothing: leftover descriptors are no reason to stop."""
    with suppress(QmpError):
        for name in names:
            with suppress(QmpRefused):  # one that came to it with the guest: its own monitor never had it
                await old.execute("closefd", {"fdname": name})
