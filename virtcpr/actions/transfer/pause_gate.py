"""Which guests of a batch are paused now: other work waits for them, because all swaps share one event loop."""

from __future__ import annotations

import asyncio


class Pauses:
    def __init__(self) -> None:
        self._paused: set[object] = set()
        self._none = asyncio.Event()
        self._none.set()

    def begin(self, guest: object) -> None:
        self._paused.add(guest)
        self._none.clear()

    def end(self, guest: object) -> None:
        """Does nothing if the guest isn't paused."""
        self._paused.discard(guest)
        if not self._paused:
            self._none.set()

    async def over(self) -> None:
        """Wait until no guest is paused: each of them has its deadline."""
        await self._none.wait()
