"""Waiting for something that only two living QEMUs can bring about."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from typing import TypeVar

from virtcpr.actions.transfer.new_qemu import NewQemu
from virtcpr.errors import HostError, QmpError
from virtcpr.host.processes.proc import Gone, Process

DYING_SECONDS = 0.1
LAST_SECONDS = 5.0  # old is gone: new may have all of the guest, and not have loaded it yet

T = TypeVar("T")


async def unless_one_dies(action: Coroutine[None, None, T], name: str, old: Process, new: NewQemu) -> T:
    """Await it, but not beyond the end of either QEMU: without old, new would wait for ever.

    Raises HostError that says whose end it was, with new QEMU's own words, and whatever the action raises.
    """
    task = asyncio.ensure_future(action)
    new_ends, old_ends = (asyncio.create_task(_end(process)) for process in (new.process, old))
    try:
        await asyncio.wait((task, new_ends, old_ends), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task, new_ends), timeout=LAST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and isinstance(task.exception(), QmpError):
            await asyncio.wait((new_ends,), timeout=DYING_SECONDS)  # its monitor goes before itself
        if not new_ends.done():
            if task.done():
                return await task
            raise HostError(f"{name}: old QEMU ended")
    finally:
        for waiting in (task, new_ends, old_ends):
            waiting.cancel()
    await asyncio.sleep(DYING_SECONDS)  # virtlogd writes its last words after it is gone
    raise HostError(f"{name}: new QEMU ended: {new.words() or 'it said nothing'}")


async def _end(process: Process) -> None:
    """Return when it is gone."""
    try:
        pidfd = process.open()
    except Gone:
        return
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    loop.add_reader(pidfd, lambda: None if ended.done() else ended.set_result(None))
    try:
        await ended
    finally:
        loop.remove_reader(pidfd)
        os.close(pidfd)
