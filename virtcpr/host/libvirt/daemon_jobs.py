"""What libvirt's daemon is doing besides the jobs of domains: its API names no work on volumes.

Seen from outside, in /proc: stopping the daemon breaks all of this off.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes.proc import Process
from virtcpr.host.system.paths import PATHS

# Data of a stream that is a file, such as `virsh vol-upload` (virFDStreamOpenInternal, src/util/virfdstream.c).
STREAM = "fd-stream"
STDERR = 2
# Pid files, locks, records.
OWN = ("/run/", "/var/run/", "/dev/shm/", "/proc/", "/sys/", f"{PATHS.status.parent}/")


def daemon_jobs(daemon: Process, own: tuple[str, ...] = OWN) -> tuple[str, ...]:
    """What the daemon is doing now, for a message; empty if nothing, or if it has ended.

    ``own``: where its own files are.  A console isn't among it: nothing is lost with it.  Raises OSError if that can't
    be seen.
    """
    try:
        streams = ["transfers a volume, or another stream"] if STREAM in _threads(daemon) else []
        written = [f"writes {path}" for path in _written(daemon, own)]
        return (*streams, *(f"runs {child}" for child in _children(daemon)), *written)
    except (FileNotFoundError, ProcessLookupError):
        return ()


def _threads(daemon: Process) -> set[str]:
    names = set()
    for thread in os.listdir(daemon.path / "task"):
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            names.add((daemon.path / "task" / thread / "comm").read_text(errors="replace").strip())
    return names


def _children(daemon: Process) -> list[str]:
    """Names of its child processes, such as the qemu-img of `virsh vol-clone`.  QEMU itself and other helpers that stay
    are no children: libvirt starts them as daemons (virCommandDaemonize)."""
    names = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            text = path.read_text(errors="replace")
            name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 1 :].split()
            if int(rest[1]) == daemon.pid and rest[0] not in "ZX":
                names.append(name)
    return sorted(names)


def _written(daemon: Process, own: tuple[str, ...]) -> list[str]:
    """Files and block devices that it has open for writing.  It copies raw volumes itself (virStorageBackendCopyToFD,
    src/storage/storage_util.c).  Its standard streams, what it appends to, and deleted files don't count."""
    paths = []
    for number in os.listdir(daemon.path / "fd"):
        link = daemon.path / "fd" / number
        with suppress(FileNotFoundError, ProcessLookupError):
            path, kind, flags = os.readlink(link), os.stat(link), _flags(daemon, number)
            writes = flags & os.O_ACCMODE != os.O_RDONLY and not flags & os.O_APPEND and int(number) > STDERR
            stays = stat.S_ISBLK(kind.st_mode) or (stat.S_ISREG(kind.st_mode) and kind.st_nlink > 0)
            if writes and stays and not path.startswith(own):
                paths.append(path)
    return sorted(paths)


def _flags(daemon: Process, number: str) -> int:
    for line in (daemon.path / "fdinfo" / number).read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "flags":
            return int(value, 8)
    return 0
