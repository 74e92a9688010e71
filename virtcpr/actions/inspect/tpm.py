"""The process that emulates a guest's TPM."""

from __future__ import annotations

import os
from pathlib import Path

from virtcpr.domain import swtpm
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.swtpm import Swtpm
from virtcpr.errors import HostError, ParseError, VirtcprError
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.paths import PATHS, SYSTEM


def look(line: CommandLine | None) -> Swtpm | None:
    """The process behind the TPM of a QEMU with this command line; None if it has none that is emulated."""
    socket = swtpm.socket_of(line) if line else None
    if socket is None:
        return None
    path = swtpm.pid_file(socket)
    try:
        if PATHS is not SYSTEM:
            raise HostError("a user's own libvirt has started it")
        process = Process.of(int(Path(path).read_text()))
        found = swtpm.read(process.pid, process.started, process.argv())
        if found.socket != socket:
            raise ParseError(f"process {process.pid} listens at {found.socket}")
        # QEMU's user can write the pid file: no process may be followed into files of its own making.
        if os.readlink(process.path / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
            raise HostError(f"process {process.pid} doesn't see the host's files")
    except (VirtcprError, OSError, ValueError) as error:
        return Swtpm(0, "", (), socket, "", f"{path}: {error}")
    return found
