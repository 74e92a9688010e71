"""``wait_until`` for what is awaited.  On its own: a shell's completion waits for processes, and loads no asyncio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from virtcpr.host.system.wait import POLL

T = TypeVar("T")


async def wait_until_async(
    look: Callable[[], Awaitable[T]],
    seconds: float,
    *,
    until: Callable[[T], object] = bool,
    poll: float = POLL,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """``wait_until`` for a coroutine; other tasks run meanwhile."""
    deadline = clock() + seconds
    while not until(seen := await look()) and (left := deadline - clock()) > 0:
        await pause(min(poll, left))
    return seen
