"""Many guests at once, one thread per guest: most of the time is spent waiting for libvirt, QEMU and storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 8


def together(guests: Sequence[T], action: Callable[[T], None], parallel: int | None) -> None:
    """Run the action for every guest, ``parallel`` at a time.  Raises what an action raised, after all have ended."""
    if not guests:
        return
    with ThreadPoolExecutor(max_workers=parallel or max(AT_ONCE, os.cpu_count() or 1)) as pool:
        for future in [pool.submit(action, guest) for guest in guests]:
            future.result()
