"""The processes that serve a guest's QEMU: of its TPM, of its shared directories."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Collection, Iterator
from dataclasses import replace

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.helpers import passt, swtpm, virtiofsd
from virtcpr.domain.helpers.helper import Helper
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.processes import proc
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.launch import PATH
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
                yield _completed(found, process)
            except (VirtcprError, OSError, ValueError) as error:
                yield Helper(kind.WHAT, 0, "", (), socket, pid_file, problem=f"{pid_file}: {error}")


def _completed(found: Helper, process: Process) -> Helper:
    """With what its command line doesn't say.  Raises HostError and OSError."""
    if found.sandbox:
        return replace(found, files=_files(process))
    return replace(found, program=_program(found.argv[0])) if found.detaches else found


def _program(name: str) -> str:
    """The program of this name that libvirt's daemon would run (virFindFileInPath)."""
    path = shutil.which(name, path=PATH)
    if path is None:
        raise HostError(f"there is no {name} in {PATH}")
    kind = os.stat(path)
    if kind.st_uid != 0 or kind.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise HostError(f"others than root can write to {path}")
    return path


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
    elif helper.sandbox:
        if (owner := process.user().uid) != 0:
            raise HostError(f"process {process.pid} is user {owner}'s")
    elif os.readlink(process.path / "ns/mnt") != os.readlink("/proc/self/ns/mnt"):
        raise HostError(f"process {process.pid} doesn't see the host's files")
