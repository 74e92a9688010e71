"""Mode reboot: its pause against libvirt's own save and start, by RAM size; ten guests at once against one by one."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from tests.bench.figures import Item, Row
from tests.bench.measure import TURNS, pause
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import Witness, run, virsh
from tests.lab.support.guests import SMALL, Shape, lively
from tests.lab.support.kept import LabError
from tests.lab.support.reboots import define

WRITTEN = "witness.ram_pause=0"  # the guest fills its RAM as fast as it can
SIZED = {
    mib: replace(lively(SMALL), name=f"placed{mib}", number=40 + n, memory_mib=mib, ram_mib=ram, prepared=False,
                 kernel_options=WRITTEN)
    for n, (mib, ram) in enumerate(((256, 128), (1024, 832), (4096, 3584)))
}  # fmt: skip
TEN = tuple(
    replace(SMALL, name=f"ten{n}", number=50 + n, memory_mib=160, ram_mib=16, prepared=False, interval_us=50_000)
    for n in range(10)
)


def rows() -> Iterator[Item]:
    forward_at_once()
    witness = Witness()
    start(witness, tuple(SIZED.values()))
    for shape in SIZED.values():  # one at a time: each keeps a CPU busy
        virsh("suspend", shape.name)
    yield against_managed_save(witness)
    yield against_ram_size(witness)
    witness.close()
    for shape in SIZED.values():
        client.remove(shape.name)
    yield from ten_at_once()


def forward_at_once() -> None:
    """Have the lab's bridge pass a new port's packets at once, so that what is measured is the guest.

    libvirt's default network has STP on: a port that comes up listens and learns for twice the forward delay (of 2 s,
    the least that Linux takes) before it forwards (Linux, net/bridge/br_stp.c br_make_forwarding).
    """
    for setting in ("stp_state", "forward_delay"):
        run("ip", "link", "set", "virbr0", "type", "bridge", setting, "0")


def start(witness: Witness, shapes: Sequence[Shape]) -> None:
    """Guests whose RAM is in files."""
    for shape in shapes:
        define(shape)
        client.virtcpr("prepare", "--yes", "--mode", "reboot", shape.name, check=True)
        virsh("start", shape.name)
    for shape in shapes:
        witness.watch(shape, timeout=300)


def alone(witness: Witness, shape: Shape, act: Callable[[], object]) -> float:
    """The pause of a guest that runs for this only."""
    virsh("resume", shape.name)
    try:
        return pause(witness, shape, act)
    finally:
        virsh("suspend", shape.name)


def upgrade(shape: Shape) -> None:
    other = EMULATOR if f"<emulator>{REBUILT}<" in virsh("dumpxml", shape.name) else REBUILT
    report = client.upgrade("--mode", "reboot", "--emulator", other, shape.name)
    if report["exit_code"] != 0:
        raise LabError(f"virtcpr failed: {json.dumps(report)}")


def managed_save(shape: Shape) -> None:
    virsh("managedsave", shape.name, timeout=300)
    virsh("start", shape.name, timeout=300)


def against_managed_save(witness: Witness) -> Row:
    shape = SIZED[1024]
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(alone(witness, shape, lambda: upgrade(shape)))
        theirs.append(alone(witness, shape, lambda: managed_save(shape)))
    return Row("reboot-save", "pause, mode reboot against managedsave and start, 1 GiB", ours, theirs, 0.2)


def against_ram_size(witness: Witness) -> Row:
    large, small = [], []
    for _ in range(TURNS):
        large.append(alone(witness, SIZED[4096], lambda: upgrade(SIZED[4096])))
        small.append(alone(witness, SIZED[256], lambda: upgrade(SIZED[256])))
    return Row("reboot-ram", "pause, mode reboot, 4 GiB against 256 MiB of RAM", large, small, 1.3)


def ten_at_once() -> Iterator[Row]:
    """Wall time of one command for ten guests against ten commands for one."""
    witness = Witness()
    start(witness, TEN)
    witness.close()
    times: dict[str, list[float]] = {"save": [], "restore": [], "save each": [], "restore each": []}
    for _ in range(3):
        for command in ("save", "restore"):
            options = ("--yes",) if command == "save" else ()
            times[command].append(timed([(command, *options, "--all")]))
        for command in ("save", "restore"):
            options = ("--yes",) if command == "save" else ()
            times[f"{command} each"].append(timed([(command, *options, shape.name) for shape in TEN]))
    for shape in TEN:
        client.remove(shape.name)
    for command in ("save", "restore"):
        yield Row(f"{command}-ten", f"wall time, {command} of ten guests against one by one", times[command],
                  times[f"{command} each"], 1 / 3)  # fmt: skip


def timed(commands: Sequence[Sequence[str]]) -> float:
    """Run them one after the other in the lab; how long that took, in ms."""
    script = " && ".join(" ".join(("virtcpr", "-q", *command)) for command in commands)
    begun = time.monotonic()
    run("sh", "-ec", script, timeout=600)
    return (time.monotonic() - begun) * 1000
