"""The sockets on which processes listen, by the kernel's tables (proc_net(5))."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Process, leaves

SO_ACCEPTCON = 0x10000  # /proc/net/unix, flags of a listening socket
TCP_LISTEN = "0A"


def listeners(process: Process, targets: Mapping[int, str]) -> tuple[dict[str, int], dict[int, int]]:
    """(path → descriptor) of its listening unix sockets, and (descriptor → port) of its listening TCP sockets."""
    inodes = {target[8:-1]: number for number, target in targets.items() if target.startswith("socket:[")}
    unix = {path: inodes[inode] for inode, path in _listening(process.path / "net/unix") if inode in inodes}
    inet = {}
    for table in ("net/tcp", "net/tcp6"):
        with contextlib.suppress(OSError):
            for line in (process.path / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == TCP_LISTEN and fields[9] in inodes:
                    inet[inodes[fields[9]]] = int(fields[1].rpartition(":")[2], 16)
    return unix, dict(sorted(inet.items()))


def _listening(sockets: Path) -> Iterator[tuple[str, str]]:
    """Inode and path of each that listens.  The path is whatever its owner likes: line ends, too."""
    for line in sockets.read_text(errors="surrogateescape").split("\n")[1:]:
        fields = line.split(maxsplit=7)
        with contextlib.suppress(ValueError):
            if len(fields) == 8 and int(fields[3], 16) & SO_ACCEPTCON:
                yield fields[6], fields[7]


def holders(*names: str) -> frozenset[int]:
    """The processes that hold a socket which listens, and was bound to one of these paths."""
    links = {f"socket:[{inode}]" for inode, path in _listening(Path("/proc/net/unix")) if path in names}
    pids = set()
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) in links:
                pids.add(int(link.parts[2]))
    return frozenset(pids)


def listens(session: int, path: str) -> bool:
    """Whether a process of this session listens at a path."""
    for pid in leaves(session):
        with contextlib.suppress(OSError, HostError):
            process = Process.of(pid)
            if path in listeners(process, process.fd_targets())[0]:
                return True
    return False
