"""Cgroups: where they are mounted, and how much memory the limits above a process leave."""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from pathlib import Path


def hierarchy(number: str, controllers: str) -> str | None:
    """Where a cgroup hierarchy is mounted: v2 has number 0, a v1 hierarchy is known by its controllers."""
    for where, kind, options in _mounts():
        if number == "0" and kind == "cgroup2":
            return where
        if number != "0" and kind == "cgroup" and set(controllers.split(",")) <= set(options.split(",")):
            return where
    return None


def memory_room(process: Path) -> int | None:
    """KiB that may still be used in the cgroups of a process (``/proc/PID``); None if nothing limits them.

    Files' pages are given up before anything is killed (Linux, admin-guide/cgroup-v2.rst).  The unified hierarchy only.
    """
    root, rooms = hierarchy("0", ""), []
    if root is None:
        return None
    with suppress(OSError, KeyError, ValueError, StopIteration):
        lines = (process / "cgroup").read_text().splitlines()
        inner = Path(root + next(line for line in lines if line.startswith("0::")).removeprefix("0::"))
        for cgroup in (inner, *inner.parents):
            with suppress(FileNotFoundError):  # a threaded cgroup, or the root of all
                limit = (cgroup / "memory.max").read_text().strip()
                if limit != "max":
                    rooms.append(int(limit) - int((cgroup / "memory.current").read_text()) + _files(cgroup))
    return min(rooms) // 1024 if rooms else None


def _files(cgroup: Path) -> int:
    """Bytes in pages of files that are on storage."""
    fields = dict(line.split() for line in (cgroup / "memory.stat").read_text().splitlines())
    return int(fields["file"]) - int(fields["shmem"])


@cache
def _mounts() -> tuple[tuple[str, str, str], ...]:
    """Once a run: the kernel takes milliseconds to list them, and it is asked for every thread of a paused guest."""
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return tuple((where, kind, options) for _, where, kind, options, *_ in lines if kind in ("cgroup", "cgroup2"))
