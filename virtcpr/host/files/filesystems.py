"""What a file lies on: whether it outlives the host's reboot, and how much room is left."""

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
    """Whether what is in this file is still there after a reboot of the host; of a device (DAX) that is assumed."""
    if Path(path).is_char_device() or Path(path).is_block_device():
        return True
    return _kind(os.path.realpath(path), os.fsdecode(mounts.read_bytes()).split("\n")) not in VOLATILE


def _kind(path: str, lines: list[str]) -> str:
    """The type of the file system that a path is on: the mount point that is its longest prefix, the last one there."""
    mount = ("", "")
    for line in filter(None, lines):
        mounted, _, source = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), mounted.split()[4])  # blanks (proc(5))
        inside = point == "/" or path == point or path.startswith(f"{point}/")
        if inside and len(point) >= len(mount[0]):
            mount = (point, source.split()[0])
    return mount[1]


def free_bytes(directory: Path) -> int:
    """Room for root where a directory is, or will be.  Raises HostError."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    try:
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise HostError(f"{existing} can't be looked at: {error.strerror}") from error
