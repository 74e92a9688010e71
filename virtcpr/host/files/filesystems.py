"""The file system of a file: whether it survives a reboot of the host, and how much room is left."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from virtcpr.errors import HostError

# File systems that are memory (Linux, mm/shmem.c, fs/ramfs, fs/hugetlbfs).
VOLATILE = frozenset({"tmpfs", "ramfs", "hugetlbfs", "devtmpfs"})
MOUNTS = Path("/proc/self/mountinfo")


def survives(path: str, mounts: Path = MOUNTS) -> bool:
    """Whether this file's content survives a reboot of the host; a device (DAX) is assumed to keep it."""
    if Path(path).is_char_device() or Path(path).is_block_device():
        return True
    return _kind(os.path.realpath(path), os.fsdecode(mounts.read_bytes()).split("\n")) not in VOLATILE


def _kind(path: str, lines: list[str]) -> str:
    """The type of a path's file system: its mount point is the path's longest prefix; the last mount there counts."""
    mount = ("", "")
    for line in filter(None, lines):
        mounted, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted.split()[4])  # blanks (proc(5))
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        if inside and len(point) >= len(mount[0]):
            mount = (point, source.split()[0])
    return mount[1]


def free_bytes(directory: Path) -> int:
    """Free space for root on the file system of a directory, which may not exist yet.  Raises HostError."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise HostError(f"{existing} can't be looked at: {error.strerror}") from error
