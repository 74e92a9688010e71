"""Whether a package manager is at work: then what is installed may change at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from virtcpr.host.processes.proc import lock_owner

# dpkg holds the first two while it changes something, and while its triggers run; apt holds lock-frontend around all of
# its runs of dpkg.  unattended-upgrades runs dpkg many times, and always holds its own lock.  rpm's lock is beside its
# database (rpmdb(8)).  All are POSIX locks.
LOCKED = (
    Path("/var/lib/dpkg/lock-frontend"),
    Path("/var/lib/dpkg/lock"),
    Path("/run/unattended-upgrades.lock"),
    Path("/usr/lib/sysimage/rpm/.rpm.lock"),
    Path("/var/lib/rpm/.rpm.lock"),
)
PRESENT = (Path("/var/lib/pacman/db.lck"),)  # pacman is at work while the file is there
QUIET_SECONDS = 15.0  # an upgrade may take several runs
WAIT_SECONDS = 600.0
EVERY = 1.0  # s; a lock must be polled: waiting for it means to take it, which disturbs its owner


def busy() -> str | None:
    """The lock that a package manager holds now; None if there is none."""
    held = [path for path in LOCKED if lock_owner(path) is not None] + [path for path in PRESENT if path.exists()]
    return str(held[0]) if held else None


def await_quiet(
    disturbed: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> str | None:
    """Wait until no package manager was at work for QUIET_SECONDS; returns None, or after WAIT_SECONDS the reason.

    ``disturbed`` is polled: whether a package manager ran between two checks of the locks.
    """
    end = clock() + WAIT_SECONDS
    since = clock()
    while True:
        holder, now = busy(), clock()
        if disturbed() or holder is not None:
            since = now
        elif now - since >= QUIET_SECONDS:
            return None
        if now >= end:
            return f"{holder} is held" if holder else "package managers keep starting"
        pause(EVERY)
