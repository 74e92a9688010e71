"""Devices of the host go along: a NIC and a disk by VFIO, both in use, in a KVM guest under AppArmor.

Both are emulated, behind an emulated IOMMU; what the NIC sends arrives at a NIC of the host on the same hub.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.host.support import confinement
from tests.host.support.emulator import GIVEN_MAC
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD, REBUILT
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.guests import watch_request
from tests.lab.support.leftovers import leftovers
from tests.lab.support.reboots import define

SHAPE = replace(KVM, name="given", number=23, memory_mib=192, ram_mib=16, agent=True)
ITS_NIC = "192.168.123.24"
SHAPE = replace(SHAPE, kernel_options=f"{SHAPE.kernel_options} witness.ip2={ITS_NIC} witness.disks=/dev/nvme0n1")
HOSTDEV = """<hostdev mode='subsystem' type='pci' managed='yes'>
  <driver name='vfio'/>
  <source><address domain='0x{0}' bus='0x{1}' slot='0x{2}' function='0x{3}'/></source>
</hostdev>"""
WARNED = ["hostdev-moves"]


@dataclass(frozen=True)
class Device:
    """A PCI device of the host's, as `0000:02:00.0`."""

    address: str

    @property
    def xml(self) -> str:
        return HOSTDEV.format(*re.split("[:.]", self.address))

    @property
    def driver(self) -> str:
        """That of the host which has it; empty for none."""
        return shell(f"basename $(readlink /sys/bus/pci/devices/{self.address}/driver) || true").strip()


@dataclass(frozen=True)
class Given:
    """What the guest has: its NIC, its disk."""

    guests: Guests
    nic: Device
    disk: Device

    def watch(self) -> None:
        """The guest's connections by both NICs."""
        self.guests.witness.ask(**watch_request(SHAPE), ip2=ITS_NIC)
        self.guests.witness.beats(SHAPE, 20, 120)
        self.guests.witness.mark()

    def assert_works(self) -> None:
        """Traffic by both NICs, data on both disks, and an interrupt on each vector that had some before."""
        before = interrupts()
        self.guests.assert_well(SHAPE, beats=40)
        after = interrupts()
        used = {vector for vector, number in before.items() if number and not vector.endswith("config")}
        assert used
        silent = {vector for vector in used if after[vector] <= before[vector] and "nvme0q0" not in vector}
        assert not silent, (before, after)


def interrupts() -> dict[str, int]:
    """How often each vector of the guest's has interrupted, all its CPUs together, by the guest's own count."""
    ask = '{"execute": "guest-exec", "arguments": {"path": "/interrupts", "arg": []}}'
    done = shell(f"grep -c 'irq end' {SHAPE.serial_path} || true").strip()
    virsh("qemu-agent-command", SHAPE.name, ask)
    lines = shell(
        f"timeout 60 sh -c 'until [ $(grep -c \"irq end\" {SHAPE.serial_path}) -gt {done} ]; do sleep 0.2; done'; "
        f"tac {SHAPE.serial_path} | sed -n '/irq end/,$p' | sed '1d; /irq end/q' | grep 'irq ' || true"
    ).splitlines()
    counts = {}
    for line in lines:
        words = line.partition("irq ")[2].replace(":", " ", 1).split()
        numbers = [int(word) for word in words[1:] if word.isdigit()]
        counts[" ".join(words[-1:])] = sum(numbers[: SHAPE.vcpus])
    return counts


def held(process: int) -> dict[str, int]:
    """Descriptors, pinned and locked memory (KiB), VFIO's descriptors: what mustn't grow from move to move."""
    status = dict(line.split(":", 1) for line in run("cat", f"/proc/{process}/status").out.splitlines())
    links = shell(f"ls -l /proc/{process}/fd")
    return {
        "locked": int(status["VmLck"].split()[0]),
        "pinned": int(status["VmPin"].split()[0]),
        "vfio": links.count("vfio"),
        "fds": len(links.splitlines()),
    }


@pytest.fixture(scope="module")
def given(host: Host) -> Iterator[Given]:
    """A guest with both devices in QEMU NEXT, and another build of that beside it."""
    client.install_qemu("NEXT")
    run("python3", "-", stdin=REBUILD)
    nic = shell(f"basename $(readlink -f /sys/class/net/$(basename $(dirname $(grep -l {GIVEN_MAC} "
                "/sys/class/net/*/address)))/device/..)").strip()  # fmt: skip
    disk = shell("basename $(readlink -f /sys/class/nvme/nvme0/device)").strip()
    made = Given(Guests(), Device(nic), Device(disk))
    define(SHAPE, lambda xml: xml.replace("</devices>", f"{made.nic.xml}{made.disk.xml}</devices>"))
    made.guests.adopt(SHAPE)
    virsh("start", SHAPE.name)
    made.watch()
    yield made
    made.guests.end()


def move(emulator: str, *more: str) -> dict[str, object]:
    report = client.upgrade("--emulator", emulator, SHAPE.name, *more)
    (domain,) = report["domains"]
    assert [finding["code"] for finding in domain["findings"]] == WARNED, report
    assert domain["result"] == "upgraded", report
    return dict(domain)


def test_it_moves_there_and_back(given: Given) -> None:
    assert (given.nic.driver, given.disk.driver) == ("vfio-pci", "vfio-pci")
    given.assert_works()
    before, denials = confinement.picture(SHAPE.name), confinement.denials()
    process = client.pid(SHAPE.name)
    had = held(process)
    assert had["vfio"] >= 4
    given.guests.witness.mark()

    move(REBUILT)

    assert client.pid(SHAPE.name) != process
    given.assert_works()
    assert confinement.picture(SHAPE.name) == before
    assert confinement.denials() == denials
    assert leftovers() == ""
    move(EMULATOR)
    given.assert_works()
    assert held(client.pid(SHAPE.name)) == had
