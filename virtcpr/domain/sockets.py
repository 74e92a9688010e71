"""Names of the unix sockets on which new QEMU listens.

It is bound beside old QEMU's socket, and renamed over it once old has ended: until then nobody reaches new by old's
path.  The kernel, and QEMU with it, go on calling a socket by the name that it was bound to.  That name is also what
QEMU removes if somebody ends it (socket_listen_cleanup, util/qemu-sockets.c): never the other's.
"""

from __future__ import annotations

SUFFIX = ".virtcpr"
LONGEST = 107  # bytes of a unix socket's path (unix(7): sun_path, with its NUL)


def beside(path: str) -> str:
    """Where new QEMU's socket is until old has ended."""
    return path + SUFFIX


def final(name: str) -> str:
    """The path of a socket from the name that it was bound to."""
    return name.removesuffix(SUFFIX)


def fits(path: str) -> bool:
    """Whether a socket can be bound beside this one."""
    return len(beside(path).encode()) <= LONGEST
