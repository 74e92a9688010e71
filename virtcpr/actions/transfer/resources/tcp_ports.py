"""The TCP ports of SPICE displays and websockets, which new QEMU binds itself when it makes its devices.

They are taken from old for that, and given back by whoever takes the guest back to old.  From then on clients reach
new; who connects in the moment between is refused.  What is taken is in the journal before: recovery gives it back
without knowing more.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.network import listening
from virtcpr.host.processes.proc import Process

Noted = tuple[tuple[int, int], ...]  # old QEMU's descriptor, and what its socket is known by


def note(fds: Iterable[tuple[int, int]]) -> Noted:
    """``fds``: the number in old, the descriptor here."""
    return tuple((source, listening.identity(fd)) for source, fd in fds)


def take(fds: Iterable[tuple[int, int]]) -> list[int]:
    """Free the ports.  Keep what is returned open until old is dead, or has its ports back.  Raises HostError."""
    taken: list[int] = []
    for _, fd in fds:
        try:
            taken.append(listening.take(fd))
        except OSError as error:
            for held in taken:
                os.close(held)
            raise HostError(f"port {listening.port(fd)} can't be taken from old QEMU: {error.strerror}") from error
    return taken


def give_back(old: Process, noted: Noted) -> list[str]:
    """Have old listen again.  Returns what failed: nothing may keep old from resuming."""
    return [problem for source, known in noted if (problem := _give_back(old, source, known)) is not None]


def _give_back(old: Process, source: int, known: int) -> str | None:
    what = "a TCP port"
    try:
        fd = old.clone_fd(source)
        try:
            if listening.identity(fd) != known:
                raise HostError(f"descriptor {source} is another one by now")
            what = f"port {listening.port(fd)}"
            listening.give_back(fd)
        finally:
            os.close(fd)
    except OSError as error:
        return f"nobody can connect to {what} of its displays: {error.strerror}"
    except VirtcprError as error:
        return f"nobody can connect to {what} of its displays: {error.message}"
    return None
