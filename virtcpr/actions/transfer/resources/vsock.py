"""The guest's CID of vsock, which new QEMU takes itself when it makes its devices, while the guest runs in old.

It is taken from old for that, and given back by whoever takes the guest back to old.  From then until the guest runs
in new, vsock doesn't reach it; connections end.  The CID is in the journal before.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.network import vsock
from virtcpr.host.processes.proc import Process

ENDED = "its vsock connections have ended"
MAY_HAVE_ENDED = "its vsock connections may have ended"


def take(old: Process, cid: int | None) -> None:
    """Free the guest's CID; nothing is done if it has none.  Raises HostError: then it is to be given back."""
    if cid is None:
        return
    try:
        with _device(old) as fd:
            vsock.take(fd)
    except OSError as error:
        raise HostError(f"the vsock CID {cid} can't be taken from old QEMU: {error.strerror}") from error


def give_back(old: Process, cid: int | None) -> list[str]:
    """New is dead: let the guest in old be reached again.  Returns what failed: nothing may keep old from resuming."""
    if cid is None:
        return []
    try:
        with _device(old) as fd:
            vsock.give(fd, cid)
    except OSError as error:
        return [f"vsock doesn't reach the guest (CID {cid}): {error.strerror}"]
    except VirtcprError as error:
        return [f"vsock doesn't reach the guest (CID {cid}): {error.message}"]
    return []


@contextmanager
def _device(old: Process) -> Iterator[int]:
    """A copy of old's descriptor of the device; it has one device at most (libvirt virDomainDef.vsock).

    Raises HostError, and OSError if old is gone.
    """
    for number, target in old.fd_targets().items():
        if target == vsock.DEVICE:
            fd = old.clone_fd(number)
            try:
                yield fd
            finally:
                os.close(fd)
            return
    raise HostError(f"old QEMU (process {old.pid}) hasn't opened {vsock.DEVICE}")
