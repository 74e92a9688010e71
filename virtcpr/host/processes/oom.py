"""Which process the kernel kills first if memory runs out, on the host or in a cgroup (proc_pid_oom_score_adj(5))."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes.proc import Process

FILE = "oom_score_adj"
EXPENDABLE = 1000  # before all others


def score(process: Process) -> int:
    """0, the kernel's default, if it can't be read."""
    with suppress(OSError, ValueError):
        return int((process.path / FILE).read_text())
    return 0


def give(process: Process, value: int) -> None:
    """A failure is shown when new QEMU is compared with the old one; a process that is gone needs no score."""
    with suppress(OSError):
        if process.alive():
            (process.path / FILE).write_text(str(value))


def take(model: Process, *, expendable: bool) -> None:
    """For this process, the score of another; or, for a new QEMU that hasn't the guest yet, the one that may be killed.
    Raises OSError."""
    Path("/proc/self", FILE).write_text(str(EXPENDABLE if expendable else score(model)))
