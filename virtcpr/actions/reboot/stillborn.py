"""A start of ours that libvirt's daemon died in before it knew the process.

Its record names process 0 then, and the next daemon waits for that one's monitor for ever, with a job that nobody can
end (qemuProcessReconnect).  The record goes while the daemon is down: the guest is in its file still.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from virtcpr.actions.reboot import save_guest
from virtcpr.domain.restart import WAITING
from virtcpr.domain.status import StatusFile, read
from virtcpr.errors import HostError, ParseError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import read_text
from virtcpr.host.libvirt import daemon
from virtcpr.host.processes.proc import with_options

if TYPE_CHECKING:
    from virtcpr.actions.reboot.leftovers import Note


def stuck(notes: Iterable[Note]) -> frozenset[str]:
    """The UUIDs of those that the daemon waits for: not of one that it is just starting itself."""
    return frozenset(one.uuid for one in notes if _stuck(one))


def _stuck(one: Note) -> bool:
    with suppress(HostError, ParseError, OSError, ValueError):
        status = read(read_text(Path(one.status_path)))
        # The daemon writes its own when it starts, before it reads any record (virPidFileAcquirePathFull).
        older = os.stat(one.status_path).st_mtime_ns < os.stat(daemon.DRIVER_PID).st_mtime_ns
        return (status.uuid, status.pid) == (one.uuid, 0) and older
    return False


def bury(one: Note, status: StatusFile) -> None:
    """End what may be there of it, a QEMU that waits for its state and whose monitor nobody knows; then forget it.

    The daemon must be down.  Raises HostError where its process doesn't end, or where there is one that this start
    can't have made: a guest that was restored once has these options for ever.  The record is there then.
    """
    for process in with_options([("-uuid", one.uuid), WAITING]):
        if int(process.started) < one.since or not one.since:
            raise HostError(f"process {process.pid} was there before it was started, and may have the guest")
        if not process.kill(save_guest.END_SECONDS):
            raise HostError(f"process {process.pid} was killed, and isn't gone after {save_guest.END_SECONDS:g} s")
    path = Path(one.status_path)
    if one.ram:
        for directory in Path(one.ram).glob(f"{status.id}-*"):
            if one.name.startswith(directory.name.removeprefix(f"{status.id}-")):  # libvirt cuts long names short
                ram_files.remove_directory(str(directory))
    path.with_suffix(".pid").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
