"""How many descriptors this process may have open."""

from __future__ import annotations

import resource


def raise_limit() -> int:
    """Raise the soft limit to the hard one, and return it.

    The soft limit is 1024 by default, for programs that use select(2); sixty guests with sixteen tap queues each need
    more.  QEMU isn't concerned: it gets the limits of old QEMU.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
