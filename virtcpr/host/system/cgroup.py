"""Where cgroups are mounted."""

from __future__ import annotations

from pathlib import Path


def hierarchy(number: str, controllers: str) -> str | None:
    """Where a cgroup hierarchy is mounted: v2 has number 0, a v1 hierarchy is known by its controllers."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if number == "0" and kind == "cgroup2":
            return where
        if number != "0" and kind == "cgroup" and set(controllers.split(",")) <= set(options.split(",")):
            return where
    return None
