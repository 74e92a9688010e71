"""End a QEMU whose guest is paused, and only then: if somebody has resumed the guest, it keeps running."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Gone, Process
from virtcpr.host.system.wait import wait_until

TRY_SECONDS = 10.0  # `rests` finds out a guest that was resumed at the next try
# CPU time that each vCPU's thread may take between two checks, in ns: to be stopped takes some µs, to run a guest more.
STOPPING_NS = 100_000
# And for each of the threads: Linux wakes one after the other, under a lock for which one that was woken spins on
# another processor meanwhile (do_signal_stop in kernel/signal.c): with 256 for up to 460 µs, in nine tries of ten.
WAKING_NS = 2_000
STOP_SECONDS = 1.0
POLL = 0.0002  # s between two checks


def end(process: Process, threads: Iterable[int], rests: Callable[[], bool], timeout: float) -> bool:
    """SIGKILL a process whose ``threads`` (its guest's vCPUs) haven't run since ``rests()`` found the guest paused.

    libvirt has no lock against `virsh resume`.  So the process is stopped first, and continues if a vCPU has run since.
    Returns whether it was killed.  Raises HostError if it can't be reached, or doesn't die within ``timeout`` seconds.
    """
    threads = frozenset(threads)  # under TCG vCPUs may share a thread
    try:
        pidfd = process.open()
    except Gone:
        return True
    try:
        deadline = time.monotonic() + TRY_SECONDS
        while time.monotonic() < deadline:
            before = _ran(process, threads)
            if not rests():
                return False
            signal.pidfd_send_signal(pidfd, signal.SIGSTOP)
            if _stands(process, threads) and _only_stopped(before, _ran(process, threads)):
                if not process.kill(timeout):
                    raise HostError(f"process {process.pid} was killed, and isn't gone after {timeout:g} s")
                return True
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        return False
    except ProcessLookupError:
        return True
    finally:
        os.close(pidfd)


def go_on(process: Process) -> None:
    """Undo the stop if ``end`` died after it.  Raises nothing for a process that is gone."""
    with contextlib.suppress(HostError, ProcessLookupError):
        pidfd = process.open()
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGCONT)
        finally:
            os.close(pidfd)


def _stands(process: Process, threads: Iterable[int]) -> bool:
    """Wait until these threads have stopped.  Until then, Linux may not count all of their CPU time."""
    return wait_until(lambda: all(_has_stopped(process, thread) for thread in threads), STOP_SECONDS, poll=POLL)


def _has_stopped(process: Process, thread: int) -> bool:
    """Whether a thread has left its processor, not only its state says so.

    Linux sets the state first (do_signal_stop in kernel/signal.c), and counts what the thread ran when it leaves.  To
    read `syscall` waits for that (task_current_syscall in lib/syscall.c).
    """
    if _state(process, thread) not in "tTXZ":
        return False
    try:
        return Path(f"/proc/{process.pid}/task/{thread}/syscall").read_text().strip() != "running"
    except OSError:  # it is gone
        return True


def _state(process: Process, thread: int) -> str:
    """One letter, as in proc(5); X for a thread that is gone."""
    try:
        return Path(f"/proc/{process.pid}/task/{thread}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"


def _only_stopped(before: Mapping[int, int], after: Mapping[int, int]) -> bool:
    """Whether no thread ran for longer than it takes to be stopped.  Each by itself: hundreds together take a while."""
    most = STOPPING_NS + WAKING_NS * len(after)
    return all(ran - before.get(thread, 0) < most for thread, ran in after.items())


def _ran(process: Process, threads: Iterable[int]) -> dict[int, int]:
    """Thread → the CPU time that it has used, in ns (Linux, Documentation/scheduler/sched-stats.rst)."""
    used = {}
    for thread in threads:
        with contextlib.suppress(OSError, ValueError):
            used[thread] = int(Path(f"/proc/{process.pid}/task/{thread}/schedstat").read_text().split()[0])
    return used
