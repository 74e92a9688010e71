"""How many descriptors this process may have open."""

from __future__ import annotations

import resource


def most() -> int:
    """The hard limit: what ``allow`` can allow."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def allow(number: int) -> None:
    """Raise the soft limit, 1024 by default, to so many if it is lower; to the hard limit at most.

    Not further than needed: every program that is started from here inherits it, and some close all that they might
    have open, one by one.  QEMU isn't concerned: it gets the limits of old QEMU.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < min(number, hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(number, hard), hard))
