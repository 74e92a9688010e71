"""The shared libraries that a process has in memory, compared with those on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes.build import build_of
from virtcpr.host.processes.proc import Process

DELETED = " (deleted)"
# Mappings that have no file on disk, or none of code (proc_pid_maps(5)).
NO_LIBRARY = ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "[")


def replaced(process: Process) -> tuple[str, ...]:
    """Paths of libraries whose build in memory isn't the build on disk any more: a package upgrade replaced or removed
    them.

    The process's own binary is left out.  Only root may read a deleted library (proc_map_files_get_link,
    fs/proc/base.c); for others each deleted library counts as replaced.  Raises OSError if the process is gone.
    """
    own = os.readlink(process.path / "exe").removesuffix(DELETED)
    return tuple(path for path, mapped in deleted(process).items() if path != own and _differs(process, path, mapped))


def deleted(process: Process) -> dict[str, Path]:
    """Path of each deleted file that has code in memory → the file itself."""
    return dict(_mappings(process, (process.path / "maps").read_text(errors="surrogateescape")))


def _mappings(process: Process, maps: str) -> Iterator[tuple[str, Path]]:
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and "x" in fields[1] and fields[5].endswith(DELETED):
            path = fields[5].removesuffix(DELETED)
            if not path.startswith(NO_LIBRARY):
                yield path, process.path / "map_files" / fields[0]


def _differs(process: Process, path: str, mapped: Path) -> bool:
    with suppress(OSError):
        return build_of(mapped) != build_of(Path(f"{process.path}/root{path}"))
    return True
