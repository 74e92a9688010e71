"""Place new QEMU's threads as old's are, and record both placements for comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.processes import placement, threads
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.host.system import machined
from virtcpr.plan.placement import MAIN, Placement


@dataclass(frozen=True)
class Placed:
    """Where old QEMU's threads were, and what could not be done for new."""

    old: Placement
    problems: list[str]


async def place(old: tuple[Process, Monitor], new: tuple[Process, Monitor]) -> Placed:
    """Place new's threads as old's are, and tell machined; both processes must be alive."""
    (old_process, old_monitor), (new_process, new_monitor) = old, new
    before, after = await _known(old_process, old_monitor), await _known(new_process, new_monitor)
    was = picture(old_process, before)
    problems: list[str] = []
    for name, thread in before.items():
        if name in after:
            problems += threads.mirror((old_process.pid, thread), (new_process.pid, after[name]))
    for helper in new_process.tasks() - set(after.values()):
        threads.follow((old_process.pid, old_process.pid), (new_process.pid, helper))
    try:
        await asyncio.to_thread(machined.follow, old_process.pid, new_process.pid)
    except HostError as error:
        problems.append(f"systemd-machined doesn't know the new process: {error.message}")
    return Placed(was, problems)


async def _known(process: Process, monitor: Monitor) -> dict[str, int]:
    cpus, iothreads = await monitor.execute("query-cpus-fast"), await monitor.execute("query-iothreads")
    return names(process, qmp.threads(cpus), qmp.iothreads(iothreads))


def names(process: Process, vcpus: Mapping[int, int], iothreads: Mapping[str, int]) -> dict[str, int]:
    """The threads that libvirt places, by name.  The main thread is first: its placement is the default."""
    return {MAIN: process.pid, **{f"vCPU {number}": thread for number, thread in vcpus.items()}, **iothreads}


def picture(process: Process, known: Mapping[str, int]) -> Placement:
    """Where a QEMU's threads are; what can't be read is left out."""
    helpers = {f"thread {thread}": placement.of_thread(process, thread) for thread in _others(process, known)}
    known_threads = {name: placement.of_thread(process, thread) for name, thread in known.items()}
    return Placement(placement.of_process(process), known_threads, helpers)


def _others(process: Process, known: Mapping[str, int]) -> frozenset[int]:
    return process.tasks() - set(known.values())
