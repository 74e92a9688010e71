"""Place new QEMU's threads as old's are, and record both placements for comparison."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from virtcpr.domain import qmp
from virtcpr.errors import HostError
from virtcpr.host.processes import placement, resctrl, threads
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Qmp
from virtcpr.host.system import machined
from virtcpr.plan.placement import MAIN, Placement


@dataclass(frozen=True)
class Placed:
    """Where old QEMU's threads were, and what could not be done for new."""

    old: Placement
    problems: list[str]


@dataclass(frozen=True)
class Places:
    """Where old QEMU's threads are: what ``give`` needs when old is gone.  By their names; JSON can carry it."""

    threads: Mapping[str, threads.Place]
    groups: Mapping[str, Sequence[str]]  # of resource control


async def place(old: tuple[Process, Qmp], new: tuple[Process, Qmp]) -> Placed:
    """Place new's threads as old's are; both processes must be alive."""
    (old_process, old_monitor), (new_process, new_monitor) = old, new
    before, after = await _known(old_process, old_monitor), await _known(new_process, new_monitor)
    # In a thread, as other guests may be paused.  If this is cancelled, wait for it: new is about to be killed, and its
    # threads' numbers may soon be others'.
    placing = asyncio.ensure_future(asyncio.to_thread(_place, old_process, before, new_process, after))
    try:
        return await asyncio.shield(placing)
    except asyncio.CancelledError:
        await placing
        raise


def _place(old: Process, before: Mapping[str, int], new: Process, after: Mapping[str, int]) -> Placed:
    was = picture(old, before)
    pairs = [(thread, after[name]) for name, thread in before.items() if name in after]
    problems = mirror_groups(pairs)
    for source, target in pairs:
        problems += threads.mirror((old.pid, source), (new.pid, target))
    for helper in new.tasks() - set(after.values()):
        threads.follow((old.pid, old.pid), (new.pid, helper))
    return Placed(was, problems)


async def note(process: Process, monitor: Qmp) -> tuple[Placement, Places]:
    """Note where the threads of a QEMU are that will be gone when new's are placed: a picture for comparison, and what
    ``give`` needs.  Raises QmpError."""
    return await asyncio.to_thread(_note, process, await _known(process, monitor))


def _note(process: Process, known: Mapping[str, int]) -> tuple[Placement, Places]:
    groups: Mapping[int, tuple[str, ...]] = {}
    with suppress(OSError):
        groups = resctrl.groups(known.values())
    places = Places(
        {name: threads.note((process.pid, thread)) for name, thread in known.items()},
        {name: groups[thread] for name, thread in known.items() if thread in groups},
    )
    return picture(process, known), places


async def give(noted: Places, process: Process, monitor: Qmp) -> list[str]:
    """Place the threads of a QEMU as those that were noted; what couldn't be done.  Raises QmpError."""
    return await asyncio.to_thread(_give, noted, process, await _known(process, monitor))


def _give(noted: Places, process: Process, known: Mapping[str, int]) -> list[str]:
    problems = list[str]()
    for name, thread in known.items():
        try:
            resctrl.join(thread, noted.groups.get(name, ()))
        except OSError as error:
            problems.append(f"resource control (resctrl): {error.filename}: {error.strerror}")
        problems += threads.give(noted.threads.get(name, {}), (process.pid, thread))
    for helper in process.tasks() - set(known.values()):
        threads.settle(noted.threads.get(MAIN, {}), (process.pid, helper))
    return problems


def mirror_groups(pairs: list[tuple[int, int]]) -> list[str]:
    """Put new's threads into the groups of resource control that old's are in; what couldn't be done."""
    try:
        groups = resctrl.groups(source for source, _ in pairs)
        for source, target in pairs:
            resctrl.join(target, groups.get(source, ()))
    except OSError as error:
        return [f"resource control (resctrl): {error.filename}: {error.strerror}"]
    return []


async def lead_machine(old: Process, new: Process) -> list[str]:
    """Make new, which must be alive, the leader of the machine that systemd-machined knows; what couldn't be done."""
    try:
        await asyncio.to_thread(machined.follow, old.pid, new.pid)
    except HostError as error:
        return [f"systemd-machined doesn't know the new process: {error.message}"]
    return []


async def _known(process: Process, monitor: Qmp) -> dict[str, int]:
    cpus, iothreads = await monitor.execute("query-cpus-fast"), await monitor.execute("query-iothreads")
    return names(process, qmp.threads(cpus), qmp.iothreads(iothreads))


def names(process: Process, vcpus: Mapping[int, int], iothreads: Mapping[str, int]) -> dict[str, int]:
    """The threads that libvirt places, by name.  The main thread is first: its placement is the default."""
    return {MAIN: process.pid, **{f"vCPU {number}": thread for number, thread in vcpus.items()}, **iothreads}


def picture(process: Process, known: Mapping[str, int]) -> Placement:
    """Where a QEMU's threads are; what can't be read is left out."""
    helpers = {f"thread {thread}": placement.of_thread(process, thread) for thread in _others(process, known)}
    placed = {name: placement.of_thread(process, thread) for name, thread in known.items()}
    if resctrl.mounted():
        with suppress(OSError):
            groups = resctrl.groups(known.values())
            for name, thread in known.items():
                placed[name]["resctrl groups"] = " ".join(groups.get(thread, ["the default one"]))
    return Placement(placement.of_process(process), placed, helpers)


def _others(process: Process, known: Mapping[str, int]) -> frozenset[int]:
    return process.tasks() - set(known.values())
