"""The processes that serve a guest's QEMU: of its TPM, of its shared directories."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import replace

from virtcpr.domain import swtpm, virtiofsd
from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helper import Helper
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.paths import PATHS, SYSTEM

KINDS = (swtpm, virtiofsd)


def look(line: CommandLine | None, chardevs: Collection[str]) -> tuple[Helper, ...]:
    """The processes that libvirt started for a QEMU with this command line, and to which it is connected by one of its
    character devices (their ids)."""
    return tuple(_look(line, chardevs)) if line else ()


def _look(line: CommandLine, chardevs: Collection[str]) -> Iterator[Helper]:
    for kind in KINDS:
        for socket, pid_file in kind.sockets_of(line, chardevs).items():
            try:
                if PATHS is not SYSTEM:
                    raise HostError("a user's own libvirt has started it")
                process = Process.of(_pid(pid_file))
                found = kind.read(process.pid, process.started, process.argv(), socket)
                _refuse_stranger(process, found)
                yield replace(found, files=_files(process)) if found.sandbox else found
            except (VirtcprError, OSError, ValueError) as error:
                yield Helper(kind.WHAT, 0, "", (), socket, pid_file, problem=f"{pid_file}: {error}")


def _pid(file: str) -> int:
    """What somebody else may have put in the file's place is neither followed nor waited for."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as opened:
        return int(opened.read(16))


def _files(virtiofsd: Process) -> int:
    """It keeps a descriptor of each file that the guest knows (--inode-file-handles=never, which is its default)."""
    return max((len(os.listdir(child.path / "fd")) for child in virtiofsd.children()), default=0)


def _refuse_stranger(process: Process, helper: Helper) -> None:
    """The pid file may be QEMU's user's to write: no process may be followed into files of its own making, nor given
    root's rights.  Of a process with a sandbox it is the parent, which waits for the one in it, and takes nothing from
    the guest: its command line is as libvirt wrote it.  Raises HostError and OSError."""
    if helper.sandbox:
        if (owner := process.user().uid) != 0:
            raise HostError(f"process {process.pid} is user {owner}'s")
    elif os.readlink(process.path / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        raise HostError(f"process {process.pid} doesn't see the host's files")
