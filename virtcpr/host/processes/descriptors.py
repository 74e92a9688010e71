"""How many descriptors this process may have open."""

from __future__ import annotations

import errno
import os
import resource
import socket

MOST = 253  # descriptors of one message (Linux, SCM_MAX_FD)


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


def receive(channel: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """One message, and the descriptors that came with it: close-on-exec if ``flags`` say so.

    Raises OSError, EMFILE if there was no room for one of them: the kernel drops these, and delivers the rest
    (unix(7), MSG_CTRUNC).  None of them is left open then.
    """
    data, fds, seen, _ = socket.recv_fds(channel, size, MOST, flags)
    if seen & socket.MSG_CTRUNC:
        for fd in fds:
            os.close(fd)
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    return data, list(fds)
