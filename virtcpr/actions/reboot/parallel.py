"""Many guests at once: a thread a guest, as most of it is waiting for libvirt, QEMU and storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
AT_ONCE = 8


def together(guests: Sequence[T], action: Callable[[T], None], parallel: int | None) -> None:
    """Do it with every guest, ``parallel`` at a time.  Raises what an action raises, when all are through."""
    if not guests:
        return
    with ThreadPoolExecutor(max_workers=parallel or max(AT_ONCE, os.cpu_count() or 1)) as pool:
        for done in [pool.submit(action, guest) for guest in guests]:
            done.result()
