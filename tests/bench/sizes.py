"""What a pause depends on: RAM, vCPUs, devices, pages."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from tests.bench.figures import Item, NotRun, Row, Trace
from tests.bench.herd import MEMFD, Light, calm
from tests.bench.measure import TURNS, moved, pause, traced
from tests.bench.memory import MemoryWatch
from tests.lab.support import client
from tests.lab.support.builds import REBUILT
from tests.lab.support.client import Witness, run
from tests.lab.support.guests import SMALL, lively

# Nearly all of it is written once, and then lies still: a busy guest's pause shows its load, not its size.
SIZED = {
    mib: replace(lively(SMALL), name=f"ram{mib}", number=40 + n, memory_mib=mib, ram_mib=ram,
                 kernel_options="witness.ram_pause=1000000")
    for n, (mib, ram) in enumerate(((256, 128), (4096, 3584), (8192, 7424)))
}  # fmt: skip
VCPUS, DISKS = (1, 8, 64), (4, 20, 60)
HUGEPAGES, PAGES = Path("/proc/sys/vm/nr_hugepages"), 64  # of 2 MiB


def ram() -> Iterator[Item]:
    witness = Witness()
    for shape in SIZED.values():
        client.start(shape)
        witness.watch(shape, timeout=400)
    inside: dict[int, list[float]] = {mib: [] for mib in SIZED}
    outside: dict[int, list[float]] = {mib: [] for mib in SIZED}
    taken = []
    for _ in range(TURNS):
        for mib, shape in SIZED.items():
            with MemoryWatch() as memory:
                outside[mib].append(pause(witness, shape, lambda: inside[mib].append(moved(shape.name))))  # noqa: B023
            taken += [memory.taken_mib] if mib == max(SIZED) else []
    witness.close()
    for shape in SIZED.values():
        client.remove(shape.name)
    for mib, bound in ((4096, 1.3), (8192, 1.2)):
        what = f"{mib // 1024} GiB against 256 MiB of RAM"
        yield Row(f"ram-{mib}", f"pause by QEMU, {what}", inside[mib], inside[256], bound)
        yield Row(f"ram-{mib}-outside", f"pause from outside, {what}", outside[mib], outside[256], bound)
    yield Row("taken", f"memory taken on the host during a move of {max(SIZED)} MiB", taken, unit="MiB")


def in_turn(guests: Mapping[object, Light]) -> tuple[dict[object, list[float]], Trace]:
    """The pauses of these guests, by QEMU's events, each moved alone; and how the last one is moved."""
    for guest in guests.values():
        guest.start()
    calm()
    run("virtcpr", "plan", "--all", "--emulator", REBUILT, check=False)  # twins, as in many.py
    found: dict[object, list[float]] = {key: [] for key in guests}
    for _ in range(TURNS):
        for key, guest in guests.items():
            found[key].append(moved(guest.name))
    largest = list(guests.values())[-1].name
    trace = traced(largest, largest)
    for guest in guests.values():
        client.remove(guest.name)
    return found, trace


def vcpus() -> Iterator[Item]:
    found, trace = in_turn({number: Light(f"vcpus{number}", vcpus=number) for number in VCPUS})
    for number in VCPUS[1:]:
        yield Row(f"vcpus-{number}", f"pause by QEMU, {number} vCPUs against 1", found[number], found[1])
    yield trace


def devices() -> Iterator[Item]:
    found, trace = in_turn({number: Light(f"disks{number}", disks=number) for number in DISKS})
    for number in DISKS[1:]:
        what = f"pause by QEMU, {number} virtio disks against {DISKS[0]}"
        yield Row(f"devices-{number}", what, found[number], found[DISKS[0]])
    yield trace


@contextlib.contextmanager
def hugepages() -> Iterator[bool]:
    """Pages of the machine's, given back afterwards; False: it has none to give."""
    before = HUGEPAGES.read_text()
    try:
        HUGEPAGES.write_text(f"{int(before) + PAGES}\n")
        yield int(HUGEPAGES.read_text()) >= int(before) + PAGES
    except OSError:
        yield False
    finally:
        with contextlib.suppress(OSError):
            HUGEPAGES.write_text(before)


def pages() -> Iterator[Item]:
    with hugepages() as there:
        if not there:
            yield NotRun("hugepages against memfd", "the machine has no hugepages to give")
            return
        found, _ = in_turn({"memfd": Light("memfd"), "huge": Light("huge", backing=f"<hugepages/>{MEMFD}")})
        yield Row("hugepages", "pause by QEMU, hugepages against memfd", found["huge"], found["memfd"])
