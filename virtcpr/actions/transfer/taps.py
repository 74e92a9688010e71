"""The guest's tap queues in a hand-over: both processes have them, and new QEMU changes them when it makes devices.

The guest in old changes them, too, whenever its driver starts, is reset or is told to use other queues, and QEMU aborts
where a queue isn't as it believes.  So what new does is undone for as long as it makes its devices, and no longer.
Whether a driver is about to start QEMU isn't asked: x-query-virtio-status ends 11.1.3 where none has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from virtcpr.host.network.tap import TapQueue

INTERVAL = 0.0005  # s; a packet that is cut meanwhile is lost; a tap has no event for a change of its settings


class Taps:
    """Queues with their settings as old QEMU has them when this is made, or noted again."""

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
        """They are as old's guest wants them."""
        found = (TapQueue.of(source, fd) for source, fd in self._fds)
        self._queues = tuple(queue for queue in found if queue is not None)

    def keep(self) -> None:
        """From now on undo at once what new QEMU does to them; the guest runs in old.

        All queues are attached for it: those that old hasn't it will detach again.
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
        """New has made its devices: they are as old has them, and its guest may change them again."""
        await self.let_go()
        self._undo()
        self.restore()

    def hand_over(self) -> None:
        """The guest is about to be new QEMU's: its queues are as new believes that they are."""
        self._changed = True
        for queue in self._queues:
            if queue.source in self._news:
                queue.attach(False)

    async def let_go(self) -> None:
        """Nothing is undone any more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None

    def restore(self) -> None:
        """Put everything back as noted, where new may have changed it.  Raises nothing: old must resume."""
        for queue in self._queues if self._changed else ():
            with suppress(OSError):
                queue.restore()
        self._changed = False
