"""Placement of threads: give each thread of new QEMU what libvirt set for its counterpart in old."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes import policies
from virtcpr.host.system.cgroup import hierarchy

Failure = str
Thread = tuple[int, int]  # process, thread
Act = Callable[[Thread, Thread], None]


def mirror(old: Thread, new: Thread) -> tuple[Failure, ...]:
    """Give the thread ``new`` the cgroup, affinity, policy, nice value, I/O priority and core of the thread ``old``.

    libvirt does this when it starts a domain and never on reconnect (src/qemu/qemu_process.c,
    qemuProcessSetupPid).  Returns what couldn't be mirrored; the guest keeps running, at worst on other CPUs.
    """
    failures = []
    for process, thread in (old, new):  # QEMU names the threads, and could name those of another process
        if not Path(f"/proc/{process}/task/{thread}").is_dir():
            return (f"thread {thread} isn't one of process {process}",)
    for what, act in ACTS.items():
        try:
            act(old, new)
        except OSError as error:
            failures.append(f"{what} of thread {new[1]}: {error.strerror}")
    return tuple(failures)


def follow(main: Thread, helper: Thread) -> None:
    """Place a thread without a counterpart like the main thread.  It may be gone, or the kernel may pin it
    (io_uring's workers)."""
    for act in (_cgroup, _affinity, _core):
        with suppress(OSError):
            act(main, helper)


def _cgroup(old: Thread, new: Thread) -> None:
    if os.geteuid() != 0:  # a user's guests: libvirt places no thread, and virtcpr may not (host.placement)
        return
    wanted, current = (Path(f"/proc/{pid}/task/{tid}/cgroup").read_text() for pid, tid in (old, new))
    if wanted == current:
        return
    for line in wanted.splitlines():
        number, controllers, path = line.split(":", 2)
        root = hierarchy(number, controllers)
        if root is not None and line not in current.splitlines():
            members = Path(root + path) / ("cgroup.threads" if number == "0" else "tasks")
            members.write_text(str(new[1]))


def _affinity(old: Thread, new: Thread) -> None:
    wanted = os.sched_getaffinity(old[1])
    if os.sched_getaffinity(new[1]) != wanted:
        os.sched_setaffinity(new[1], wanted)


def _scheduling(old: Thread, new: Thread) -> None:
    policy, parameters = os.sched_getscheduler(old[1]), os.sched_getparam(old[1])
    if (os.sched_getscheduler(new[1]), os.sched_getparam(new[1]).sched_priority) != (
        policy,
        parameters.sched_priority,
    ):
        os.sched_setscheduler(new[1], policy, parameters)
    nice = os.getpriority(os.PRIO_PROCESS, old[1])
    if os.getpriority(os.PRIO_PROCESS, new[1]) != nice:
        os.setpriority(os.PRIO_PROCESS, new[1], nice)


def _io_priority(old: Thread, new: Thread) -> None:
    wanted = policies.io_priority(old[1])
    if policies.io_priority(new[1]) != wanted:
        policies.set_io_priority(new[1], wanted)


def _core(old: Thread, new: Thread) -> None:
    if policies.core_cookie(new[1]) != policies.core_cookie(old[1]):
        policies.share_core_cookie(old[1], new[1])


ACTS: dict[str, Act] = {
    "cgroup": _cgroup,
    "CPU affinity": _affinity,
    "scheduling": _scheduling,
    "I/O priority": _io_priority,
    "core-scheduling cookie": _core,
}
