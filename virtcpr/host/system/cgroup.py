"""Where cgroups are mounted."""

from __future__ import annotations

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


@cache
def _mounts() -> tuple[tuple[str, str, str], ...]:
    """Once a run: the kernel takes milliseconds to list them, and it is asked for every thread of a paused guest."""
    lines = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return tuple((where, kind, options) for _, where, kind, options, *_ in lines if kind in ("cgroup", "cgroup2"))
