"""Wait for a condition that has no event: poll it, up to a deadline on the monotonic clock."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import IO, TypeVar

POLL = 0.005  # s between two checks

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
    """Call ``look`` every ``poll`` seconds until its result passes ``until``.  Returns the last result.

    The first call is at once, the last one at the deadline, ``seconds`` later: its result is returned even if it
    doesn't pass.  A call that takes longer than that is the last.  Raises what ``look`` raises.
    """
    deadline = clock() + seconds
    while not until(seen := look()) and (left := deadline - clock()) > 0:
        pause(min(poll, left))
    return seen


def readable(file: IO[str] | int, seconds: float) -> bool:
    """Wait until a file can be read, or its other end is closed; ``seconds`` at most.  Returns whether it can be.

    By poll(2): select(2) can't be asked about a descriptor above 1023, and a batch of many guests holds more.
    """
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
