"""The processes that serve a guest's QEMU: of its TPM, of its shared directories."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator
from dataclasses import replace

from virtcpr.domain import passt, swtpm, virtiofsd
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helper import Helper
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.processes import proc
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.paths import PATHS, SYSTEM

KINDS = (swtpm, virtiofsd, passt)


def look(line: CommandLine | None, present: Collection[str]) -> tuple[Helper, ...]:
    """The processes that libvirt started for a QEMU with this command line, and to which it is connected by a character
    device or a network back end that is still present (their ids)."""
    return tuple(_look(line, present)) if line else ()


def _look(line: CommandLine, present: Collection[str]) -> Iterator[Helper]:
    for kind in KINDS:
        for socket, pid_file in kind.sockets_of(line, present).items():
            try:
                if PATHS is not SYSTEM:
                    raise HostError("a user's own libvirt has started it")
                process = Process.of(proc.pid_in(pid_file))
                found = kind.read(process.pid, process.started, process.argv(), socket)
                _refuse_stranger(process, found)
                yield replace(found, files=_files(process)) if found.sandbox else found
            except (VirtcprError, OSError, ValueError) as error:
                yield Helper(kind.WHAT, 0, "", (), socket, pid_file, problem=f"{pid_file}: {error}")


def _files(virtiofsd: Process) -> int:
    """It keeps a descriptor of each file that the guest knows (--inode-file-handles=never, which is its default)."""
    return max((len(os.listdir(child.path / "fd")) for child in virtiofsd.children()), default=0)


def _refuse_stranger(process: Process, helper: Helper) -> None:
    """The pid file may be QEMU's user's to write: no process may be followed into files of its own making, nor given
    root's rights.  Of a process with a sandbox it is the parent, which waits for the one in it, and takes nothing from
    the guest: its command line is as libvirt wrote it.  Raises HostError and OSError."""
    if helper.detaches:
        if process.user().uid == 0:
            raise HostError(f"process {process.pid} is root's")
        binary = os.stat(helper.argv[0])  # what the second one will run
        if binary.st_uid != 0 or binary.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise HostError(f"others than root can write to {helper.argv[0]}")
    elif helper.sandbox:
        if (owner := process.user().uid) != 0:
            raise HostError(f"process {process.pid} is user {owner}'s")
    elif os.readlink(process.path / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        raise HostError(f"process {process.pid} doesn't see the host's files")
