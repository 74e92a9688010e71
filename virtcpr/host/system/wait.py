"""Waiting for what no event tells: it is looked at again and again, up to a deadline on the monotonic clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

POLL = 0.005  # s between two looks

T = TypeVar("T")


def wait_until(
    look: Callable[[], T],
    seconds: float,
    *,
    until: Callable[[T], object] = bool,
    poll: float = POLL,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> T:
    """Look every ``poll`` seconds until it is as wanted (``until``; else: true).  Returns what was seen last.

    The first look is at once, the last one at the deadline, ``seconds`` later: what was seen then is returned, wanted
    or not.  A look that takes longer than that is the last.  Raises what ``look`` raises.
    """
    deadline = clock() + seconds
    while not until(seen := look()) and (left := deadline - clock()) > 0:
        pause(min(poll, left))
    return seen


async def wait_until_async(
    look: Callable[[], Awaitable[T]],
    seconds: float,
    *,
    until: Callable[[T], object] = bool,
    poll: float = POLL,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """The same for what is awaited; others run meanwhile."""
    deadline = clock() + seconds
    while not until(seen := await look()) and (left := deadline - clock()) > 0:
        await pause(min(poll, left))
    return seen
