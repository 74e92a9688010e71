"""The guest's tap queues in a hand-over: both processes have them, and new QEMU changes them when it opens them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from virtcpr.host.tap import TapQueue

INTERVAL = 0.0005  # s; a packet that is cut meanwhile is lost; a tap has no event for a change of its settings


class Taps:
    """Queues with their settings as old QEMU has them when this is made."""

    def __init__(self, fds: Iterable[tuple[int, int]] = ()) -> None:
        """``fds``: the number in old, the descriptor here."""
        found = (TapQueue.of(source, fd) for source, fd in fds)
        self._queues = tuple(queue for queue in found if queue is not None)
        self._keeper: asyncio.Task[None] | None = None
        self._taken: set[TapQueue] = set()  # those that new QEMU has detached, and old was given back
        self._olds = True

    @property
    def settings(self) -> tuple[tuple[int, ...], ...]:
        """As the journal keeps them: number in old, header length, offloads, whether it is attached."""
        return tuple((queue.source, queue.header, queue.offload, int(queue.attached)) for queue in self._queues)

    def keep(self) -> None:
        """From now on undo at once what new QEMU does to them, for as long as the guest runs in old.

        All queues are attached for it: those that old hasn't it will detach again.
        """
        for queue in self._queues:
            queue.attach(True)
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        while True:
            for queue in self._queues:
                queue.keep_header()
                if self._olds and queue.attached and queue.attach(True):
                    self._taken.add(queue)
            await asyncio.sleep(INTERVAL)

    def hand_over(self) -> None:
        """The guest is about to be new QEMU's: its queues are as new believes that they are."""
        self._olds = False
        for queue in self._taken:
            queue.attach(False)

    async def let_go(self) -> None:
        """They are new QEMU's, or nobody's any more."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def restore(self) -> None:
        """Put everything back as old had it, where new may have changed it.  Raises nothing: old must resume."""
        for queue in self._queues if self._keeper is not None else ():
            with suppress(OSError):
                queue.restore()
