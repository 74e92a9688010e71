"""Groups of the kernel's resource control (caches and memory bandwidth): libvirt's ``<cachetune>``, ``<memorytune>``.

libvirt puts the vCPU threads into them when it starts a guest, and never again (src/qemu/qemu_process.c,
qemuProcessSetupVcpu).  A group is a directory whose ``tasks`` names its threads (Linux,
Documentation/filesystems/resctrl.rst).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

ROOT = Path("/sys/fs/resctrl")
# Control groups first: a thread that moves to another one leaves its monitoring group.
PATTERNS = ("*/tasks", "mon_groups/*/tasks", "*/mon_groups/*/tasks")


def mounted() -> bool:
    return (ROOT / "tasks").is_file()


def groups(threads: Iterable[int]) -> Mapping[int, tuple[str, ...]]:
    """Thread → the control group and the monitoring groups that it is in, as paths below the root.

    Threads of the default group are left out: all of them on a host without resource control.  Raises OSError if a
    group can't be read.
    """
    wanted, memberships = frozenset(threads), dict[int, list[str]]()
    for tasks in _tasks():
        with suppress(FileNotFoundError):  # a group that was removed meanwhile
            for thread in wanted.intersection(map(int, tasks.read_text().split())):
                memberships.setdefault(thread, []).append(str(tasks.parent.relative_to(ROOT)))
    return {thread: tuple(names) for thread, names in memberships.items()}


def join(thread: int, names: Iterable[str]) -> None:
    """Put a thread into these groups, in the order in which ``groups`` names them.  Raises OSError."""
    for name in names:
        (ROOT / name / "tasks").write_text(f"{thread}\n")


def _tasks() -> Iterator[Path]:
    for pattern in PATTERNS:
        yield from sorted(ROOT.glob(pattern))
