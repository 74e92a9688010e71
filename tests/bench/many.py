"""One guest and many: blackout and pause of a batch, against a restart of the daemon and against a single guest."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tests.bench.measure import Row
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILT
from tests.lab.support.client import run, shell
from tests.lab.support.guests import IMAGES
from tests.lab.support.kept import LabError

COUNTS = (1, 8, 24, 60)
TURNS = 5
A_GUEST = 60.0  # ms that a guest may add to a blackout
# Firmware runs in them, and waits: what is measured is virtcpr, not the machine's two processors.
XML = f"""
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>many{{number}}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='{IMAGES}/many{{number}}.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><source network='default'/><model type='virtio'/><rom enabled='no'/></interface>
    <serial type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><video><model type='vga'/></video>
    <memballoon model='virtio'/>
  </devices>
  <qemu:commandline><qemu:arg value='-machine'/><qemu:arg value='aux-ram-share=on'/></qemu:commandline>
</domain>
"""


def restart(count: int) -> float:
    """Restart libvirt's daemon; how long until it lists all guests, ms.

    Again where it hung: libvirtd 11.3 does in its own shutdown, one time in ten, for 30 s.
    """
    listed = f"until [ $(virsh -q list 2>/dev/null | wc -l) = {count} ]; do sleep 0.01; done"
    while True:
        begun = time.monotonic()
        shell(f"systemctl restart libvirtd; {listed}")
        took = (time.monotonic() - begun) * 1000
        if took < 25_000:
            return took


def move(count: int, emulator: str) -> tuple[float, list[float]]:
    """Move all of them; the blackout and each one's pause by QEMU's events, ms."""
    report = client.upgrade("--all", "--force", "--no-rehearse", "--emulator", emulator)
    domains = report["domains"]
    if [domain["result"] for domain in domains] != ["upgraded"] * count:
        raise LabError(f"virtcpr failed: {report}")
    return report["blackout_ms"], [domain["pause_ms"] for domain in domains]


def rows() -> Iterator[Row]:
    there = 0
    single: list[float] = []
    for count in COUNTS:
        for number in range(there, count):
            shell(
                f"qemu-img create -q -f qcow2 {IMAGES}/many{number}.qcow2 16M; "
                f"virsh -q define /dev/stdin; virsh -q start many{number}",
                stdin=XML.format(number=number),
            )
        there = count
        run("sleep", "15")  # their firmware boots, and then finds nothing to boot
        blackouts, restarts, pauses = [], [], []
        for turn in range(TURNS):
            restarts.append(restart(count))
            blackout, paused = move(count, (REBUILT, EMULATOR)[turn % 2])
            blackouts.append(blackout)
            pauses += paused
        if count == 1:
            single = pauses
            yield Row("blackout of one guest, against a restart of libvirtd with it (ms)", blackouts, restarts, 1.15)
            continue
        allowed = [took + A_GUEST * count for took in restarts]
        against = f"against a restart and {A_GUEST:g} ms a guest"
        yield Row(f"blackout of {count} guests, {against} (ms)", blackouts, allowed, 1)
        yield Row(f"pause by QEMU of one of {count} guests, against a single guest (ms)", sorted(pauses), single, 1.5)
    for number in range(there):
        client.remove(f"many{number}")
