"""Many guests at once: most of them idle, in their firmware; one that shows its pause from outside; some busy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.lab.support import client
from tests.lab.support.client import Witness, shell
from tests.lab.support.guests import IMAGES, SMALL, Shape, lively

PROBE = replace(
    lively(SMALL),
    name="probe",
    number=12,
    memory_mib=160,
    ram_mib=16,
    kernel_options="witness.ram_pause=1000000",
)
BUSY = replace(PROBE, interval_us=5000, kernel_options="witness.ram_pause=0")  # it keeps a processor busy with its RAM
IDLE_PART, CALM_SECONDS = 0.8, 90.0
MEMFD = "<source type='memfd'/><access mode='shared'/>"


@dataclass(frozen=True)
class Light:
    """A guest in which firmware runs, and waits: what is measured is virtcpr, not the machine's two processors."""

    name: str
    vcpus: int = 1
    disks: int = 1
    backing: str = MEMFD

    def xml(self) -> str:
        disks = "".join(
            f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"
            f"<source file='{self._disk(n)}'/><target dev='{_target(n)}' bus='virtio'/></disk>"
            for n in range(self.disks)
        )
        return f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{self.name}</name><memory unit='MiB'>64</memory><vcpu>{self.vcpus}</vcpu>
  <memoryBacking>{self.backing}</memoryBacking>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices>{disks}
    <interface type='network'><source network='default'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><video><model type='vga'/></video>
    <memballoon model='virtio'/>
  </devices>
  <qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>
</domain>
"""

    def _disk(self, number: int) -> str:
        return f"{IMAGES}/{self.name}-{number}.qcow2"

    def start(self) -> None:
        made = [f"qemu-img create -q -f qcow2 {self._disk(n)} 16M" for n in range(self.disks)]
        shell("\n".join([*made, f"virsh -q define /dev/stdin; virsh -q start {self.name}"]), stdin=self.xml())


def _target(number: int) -> str:
    """vda, …, vdz, vdaa, …"""
    first, last = divmod(number, 26)
    return "vd" + (chr(ord("a") + first - 1) if first else "") + chr(ord("a") + last)


@dataclass
class Herd:
    """``count`` guests, a quarter of them busy, or else none; a single one is the probe, or busy itself."""

    count: int
    busy: bool
    witness: Witness = field(default_factory=Witness)

    @property
    def watched(self) -> Sequence[Shape]:
        """Those whose pause is seen from outside."""
        working = [replace(BUSY, name=f"busy{n}", number=20 + n) for n in range(max(1, self.count // 4))]
        if not self.busy:
            return [PROBE]
        return working if self.count == 1 else [PROBE, *working]

    @property
    def light(self) -> Sequence[Light]:
        return [Light(f"many{number}") for number in range(self.count - len(self.watched))]

    @property
    def names(self) -> list[str]:
        """A guest of the commonest kind comes first."""
        return [guest.name for guest in self.light] + [guest.name for guest in self.watched]

    def start(self) -> None:
        """Start all of them, and wait until nothing works but what shall."""
        for light in self.light:
            light.start()
        calm()
        for shape in self.watched:
            client.start(shape)
            self.witness.watch(shape, timeout=300)
            client.virsh("suspend", shape.name)  # else all of the busy ones would boot together
        for shape in self.watched:
            client.virsh("resume", shape.name)

    def silences(self) -> list[float]:
        """The longest silence of each one that is watched since the mark, ms."""
        for shape in self.watched:
            self.witness.beats(shape, 20, timeout=60)
        return [float(self.witness.report(shape)["pause_ms"]) for shape in self.watched]

    def remove(self) -> None:
        self.witness.close()
        shell("".join(f"virsh -q destroy {name}; virsh -q undefine {name}\n" for name in self.names))


def calm() -> None:
    """Wait until the processors have little to do, or for as long as guests may take to boot."""
    deadline = time.monotonic() + CALM_SECONDS
    while time.monotonic() < deadline:
        before = _ticks()
        time.sleep(2)
        after = _ticks()
        if after[1] - before[1] >= IDLE_PART * (after[0] - before[0]):
            return


def _ticks() -> tuple[int, int]:
    """Of all processors since boot: all, and idle."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return sum(fields), fields[3] + fields[4]
