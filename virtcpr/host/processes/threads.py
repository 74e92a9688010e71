"""Placement of threads: give each thread of new QEMU what libvirt set for its counterpart in old."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from virtcpr.host.processes import policies
from virtcpr.host.system.cgroup import hierarchy

Failure = str
Thread = tuple[int, int]  # process, thread
Place = Mapping[str, Any]  # what libvirt sets for a thread → its value; JSON can carry it


def mirror(old: Thread, new: Thread) -> tuple[Failure, ...]:
    """Give the thread ``new`` the cgroup, affinity, policy, nice value, I/O priority and core of the thread ``old``.

    libvirt does this when it starts a domain and never on reconnect (src/qemu/qemu_process.c,
    qemuProcessSetupPid).  Returns what couldn't be mirrored; the guest keeps running, at worst on other CPUs.
    """
    if not _is_there(old):
        return (f"thread {old[1]} isn't one of process {old[0]}",)
    failures = []
    if _is_there(new):
        try:
            _core(old, new)
        except OSError as error:
            failures.append(f"core-scheduling cookie of thread {new[1]}: {error.strerror}")
    return (*give(note(old), new), *failures)


def note(thread: Thread) -> Place:
    """What ``give`` can give to another thread later, when this one is gone; what can't be read is left out."""
    place = {}
    for what, (read, _) in ACTS.items():
        with suppress(OSError):
            place[what] = read(thread)
    return place


def give(place: Place, new: Thread) -> tuple[Failure, ...]:
    """Place a thread like the one that was noted: as ``mirror``, but for the core, which only a live one can share."""
    if not _is_there(new):
        return (f"thread {new[1]} isn't one of process {new[0]}",)
    failures = []
    for what, (_, write) in ACTS.items():
        if what not in place:
            failures.append(f"{what} of thread {new[1]}: it couldn't be read")
            continue
        try:
            write(new, place[what])
        except OSError as error:
            failures.append(f"{what} of thread {new[1]}: {error.strerror}")
    return tuple(failures)


def follow(main: Thread, helper: Thread) -> None:
    """Place a thread without a counterpart like the main thread.  It may be gone, or the kernel may pin it
    (io_uring's workers)."""
    with suppress(OSError):
        _core(main, helper)
    settle(note(main), helper)


def settle(main: Place, helper: Thread) -> None:
    """As ``follow``, with the main thread's noted place."""
    for what in ("cgroup", "CPU affinity"):
        with suppress(OSError, KeyError):
            ACTS[what][1](helper, main[what])


def _is_there(thread: Thread) -> bool:
    """QEMU names the threads, and could name those of another process."""
    return Path(f"/proc/{thread[0]}/task/{thread[1]}").is_dir()


def _cgroups(thread: Thread) -> str:
    return Path(f"/proc/{thread[0]}/task/{thread[1]}/cgroup").read_text()


def _join(new: Thread, wanted: str) -> None:
    if os.geteuid() != 0:  # a user's guests: libvirt places no thread, and virtcpr may not (host.placement)
        return
    current = _cgroups(new)
    if wanted == current:
        return
    for line in wanted.splitlines():
        number, controllers, path = line.split(":", 2)
        root = hierarchy(number, controllers)
        if root is not None and line not in current.splitlines():
            members = Path(root + path) / ("cgroup.threads" if number == "0" else "tasks")
            members.write_text(str(new[1]))


def _affinity(thread: Thread) -> list[int]:
    return sorted(os.sched_getaffinity(thread[1]))


def _set_affinity(new: Thread, wanted: list[int]) -> None:
    if _affinity(new) != wanted:
        os.sched_setaffinity(new[1], wanted)


def _scheduling(thread: Thread) -> list[int]:
    priority = os.sched_getparam(thread[1]).sched_priority
    return [os.sched_getscheduler(thread[1]), priority, os.getpriority(os.PRIO_PROCESS, thread[1])]


def _set_scheduling(new: Thread, wanted: list[int]) -> None:
    policy, priority, nice = wanted
    if _scheduling(new)[:2] != wanted[:2]:
        os.sched_setscheduler(new[1], policy, os.sched_param(priority))
    if os.getpriority(os.PRIO_PROCESS, new[1]) != nice:
        os.setpriority(os.PRIO_PROCESS, new[1], nice)


def _io_priority(thread: Thread) -> int:
    return policies.io_priority(thread[1])


def _set_io_priority(new: Thread, wanted: int) -> None:
    if policies.io_priority(new[1]) != wanted:
        policies.set_io_priority(new[1], wanted)


def _core(old: Thread, new: Thread) -> None:
    if policies.core_cookie(new[1]) != policies.core_cookie(old[1]):
        policies.share_core_cookie(old[1], new[1])


# How each is read, and how it is set.
ACTS: Mapping[str, tuple[Callable[[Thread], Any], Callable[[Thread, Any], None]]] = {
    "cgroup": (_cgroups, _join),
    "CPU affinity": (_affinity, _set_affinity),
    "scheduling": (_scheduling, _set_scheduling),
    "I/O priority": (_io_priority, _set_io_priority),
}
