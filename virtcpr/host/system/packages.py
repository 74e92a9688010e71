"""Whether a package manager is at work: then what is installed may change at any moment, and is best left alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from virtcpr.host.processes.proc import lock_owner

# dpkg holds both for as long as it changes something, and its triggers run under them; apt holds the first around all
# that it has dpkg do.  unattended-upgrades runs dpkg many times, and holds its own all the while.  rpm's is where its
# database is (rpmdb(8)).  All are POSIX locks.
LOCKED = (
    Path("/var/lib/dpkg/lock-frontend"),
    Path("/var/lib/dpkg/lock"),
    Path("/run/unattended-upgrades.lock"),
    Path("/usr/lib/sysimage/rpm/.rpm.lock"),
    Path("/var/lib/rpm/.rpm.lock"),
)
PRESENT = (Path("/var/lib/pacman/db.lck"),)  # pacman is at work while the file is there
QUIET_SECONDS = 15.0  # between the runs of one upgrade that is made in several
WAIT_SECONDS = 600.0
EVERY = 1.0  # no lock tells when it is let go without being taken, which would disturb its owner


def busy() -> str | None:
    """Which lock a package manager holds now; None: none of them is at work."""
    held = [path for path in LOCKED if lock_owner(path) is not None] + [path for path in PRESENT if path.exists()]
    return str(held[0]) if held else None


def await_quiet(
    disturbed: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], object] = time.sleep,
) -> str | None:
    """Wait until no package manager was at work for a while; None then, else what kept it from being so in time.

    ``disturbed`` is asked again and again: whether one was, between two looks at the locks.
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
            return f"{holder} is held" if holder else "package managers come one after the other"
        pause(EVERY)
