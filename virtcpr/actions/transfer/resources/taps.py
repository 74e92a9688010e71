"""The guest's tap queues in a hand-over: both processes have them, and new QEMU changes them when it makes devices.

The guest in old changes them, too, whenever its driver starts, is reset or is told to use other queues.  QEMU aborts
if a queue isn't as it expects.  So new's changes are undone while it makes its devices, and no longer.  QEMU isn't
asked whether a driver is about to start: x-query-virtio-status ends 11.1.3 if none has started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from virtcpr.host.network.tap import TapQueue

INTERVAL = 0.0005  # s; a packet that is cut meanwhile is lost; a tap sends no event when its settings change


class Taps:
    """The queues, with the settings that old QEMU had when they were last noted."""

    def __init__(self, fds: Iterable[tuple[int, int]] = ()) -> None:
        """``fds``: the number in old, the descriptor here."""
        self._fds = tuple(fds)
        self._keeper: asyncio.Task[None] | None = None
        self._news: set[int] = set()  # queues that new has detached, by their number in old
        self._changed = False  # they may not be as noted
        self.note()

    @property
    def settings(self) -> tuple[tuple[int, ...], ...]:
        """As the journal keeps them: number in old, header length, offloads, whether it is attached."""
        return tuple((queue.source, queue.header, queue.offload, int(queue.attached)) for queue in self._queues)

    def note(self) -> None:
        """Note the settings: they are as old's guest wants them."""
        queues = (TapQueue.of(source, fd) for source, fd in self._fds)
        self._queues = tuple(queue for queue in queues if queue is not None)

    def keep(self) -> None:
        """From now on undo at once what new QEMU does to the queues; the guest runs in old.

        Attaches all queues; new will detach again those that old hasn't attached.
        """
        self._changed = True
        self._news = {queue.source for queue in self._queues if queue.attach(True)}
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            self._undo()
            await asyncio.sleep(INTERVAL)

    def _undo(self) -> None:
        for queue in self._queues:
            queue.keep_header()
            if queue.attached and queue.attach(True):
                self._news.add(queue.source)

    async def hand_back(self) -> None:
        """New has made its devices: put the queues back for old, whose guest may change them again."""
        await self.let_go()
        self._undo()
        self.restore()

    def hand_over(self) -> None:
        """New QEMU is about to get the guest: set its queues as new expects them."""
        self._changed = True
        for queue in self._queues:
            if queue.source in self._news:
                queue.attach(False)

    async def let_go(self) -> None:
        """Stop undoing new's changes."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def restore(self) -> None:
        """Put everything back as noted, if new may have changed it.  Raises nothing: old must resume."""
        for queue in self._queues if self._changed else ():
            with suppress(OSError):
                queue.restore()
        self._changed = False
