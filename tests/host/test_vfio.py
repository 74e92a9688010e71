"""Devices of the host go along: a NIC and a disk by VFIO, both in use, in a KVM guest under AppArmor.

Both are emulated, behind an emulated IOMMU; what the NIC sends arrives at a NIC of the host on the same hub.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from tests.host.support import builds, confinement
from tests.host.support.emulator import GIVEN_MAC
from tests.host.support.guests import KVM
from tests.host.support.machine import Host
from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR, REBUILD
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
# Those of both devices: the NIC's two queues, the disk's.
VECTORS = frozenset({"virtio3-input.0", "virtio3-output.0", "nvme0q1"})


@dataclass(frozen=True)
class Device:
    """A PCI device of the host's, as `0000:02:00.0`."""

    address: str

    @property
    def xml(self) -> str:
        return HOSTDEV.format(*re.split("[:.]", self.address))

    @property
    def node(self) -> str:
        """libvirt's name for it."""
        return "pci_" + re.sub("[:.]", "_", self.address)

    @property
    def driver_command(self) -> str:
        return f"basename $(readlink /sys/bus/pci/devices/{self.address}/driver)"

    @property
    def driver(self) -> str:
        """That of the host which has it; empty for none."""
        return shell(f"{self.driver_command} || true").strip()


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

    def assert_works(self, vectors: frozenset[str] | None = None) -> None:
        """Traffic by both NICs, data on both disks, and an interrupt on each vector that had some before."""
        before = interrupts(VECTORS if vectors is None else vectors)
        self.guests.assert_well(SHAPE, beats=40)
        used = {vector for vector, number in before.items() if number and not vector.endswith("config")}
        after = interrupts(frozenset(used))
        silent = {vector for vector in used if after[vector] <= before[vector] and "nvme0q0" not in vector}
        assert not silent, (before, after)


def interrupts(wanted: frozenset[str] = frozenset()) -> dict[str, int]:
    """How often each vector of the guest's has interrupted, all its CPUs together, by the guest's own count.

    Its console loses lines where it can't take them at once: it is asked until each wanted vector was heard of.
    """
    ask = '{"execute": "guest-exec", "arguments": {"path": "/interrupts", "arg": []}}'
    counts: dict[str, int] = {}
    for _ in range(10):
        seen = len(run("cat", SHAPE.serial_path).out.splitlines())
        virsh("qemu-agent-command", SHAPE.name, ask)
        said = f"tail -n +{seen} {SHAPE.serial_path}"
        run("timeout", "10", "sh", "-c", f"until {said} | grep -q 'irq end'; do sleep 0.2; done", check=False)
        for line in run("sh", "-c", f"{said} | grep 'irq .*:'", check=False).out.splitlines():
            words = line.partition("irq ")[2].replace(":", " ", 1).split()
            numbers = [int(word) for word in words[1:] if word.isdigit()]
            counts[words[-1]] = sum(numbers[: SHAPE.vcpus])
        if counts and wanted <= counts.keys():
            return counts
    raise AssertionError(f"never heard of {wanted - counts.keys()}")


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


def assert_not_more(had: dict[str, int]) -> None:
    """Than a process of the guest had before."""
    has = held(client.pid(SHAPE.name))
    assert has["fds"] <= had["fds"], (had, has)
    assert {**has, "fds": 0} == {**had, "fds": 0}


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


def move(number: int = 1) -> None:
    """To the other build, and so on."""
    for _ in range(number):
        builds.move(SHAPE.name, *WARNED)


def test_it_moves_there_and_back(given: Given) -> None:
    given.assert_works()
    assert (given.nic.driver, given.disk.driver) == ("vfio-pci", "vfio-pci")
    before, denials = confinement.picture(SHAPE.name), confinement.denials()
    process = client.pid(SHAPE.name)
    had = held(process)
    assert had["vfio"] >= 4
    given.guests.witness.mark()

    move()

    assert client.pid(SHAPE.name) != process
    given.assert_works()
    assert confinement.picture(SHAPE.name) == before
    assert confinement.denials() == denials
    assert leftovers() == ""
    move()
    given.assert_works()
    assert_not_more(had)


def test_nothing_grows_from_move_to_move(given: Given) -> None:
    """Eight moves in a row: descriptors, pinned and locked memory."""
    had, mapped = held(client.pid(SHAPE.name)), shell("grep -c vfio /proc/interrupts || true")
    for _ in range(4):
        move(2)
        given.assert_works()
    assert_not_more(had)
    assert shell("grep -c vfio /proc/interrupts || true") == mapped


ROLLED_BACK = [
    ("arm", "kill -9 $NEW"),
    ("incoming", "kill -9 $NEW"),
    ("incoming", "kill -INT $PPID"),
    ("received", "kill -9 $NEW"),
    ("received", "kill -INT $PPID"),
]


@pytest.mark.parametrize(("step", "happening"), ROLLED_BACK, ids=[f"{step}-{what[5:]}" for step, what in ROLLED_BACK])
def test_old_qemu_keeps_the_devices(given: Given, step: str, happening: str) -> None:
    """Also after new QEMU had them all, and the IOMMU's mappings: and it can be moved afterwards."""
    given.guests.witness.mark()

    builds.rolled_back(SHAPE.name, step, happening)

    given.assert_works()
    assert leftovers() == ""
    move()
    given.assert_works()


@pytest.mark.parametrize("step", ["migrate", "incoming", "received", "commit", "end-old", "record"])
def test_the_guardian_settles_it(given: Given, step: str) -> None:
    """virtcpr is killed; one QEMU has the guest, and its devices."""
    given.guests.witness.mark()

    builds.killed(SHAPE.name, step)

    given.assert_works()
    assert leftovers() == ""


def test_the_host_gets_its_devices_back(given: Given) -> None:
    """By detaching one, and by shutting the guest down; libvirt knows who has them meanwhile."""
    refused = run("virsh", "nodedev-reset", given.nic.node, check=False)
    assert (refused.code, "Not resetting active device" in refused.err) == (1, True), refused
    for action in ("detach-device", "attach-device"):
        shell(f"virsh -q {action} {SHAPE.name} /dev/stdin --live", stdin=given.nic.xml)
        wanted = "vfio-pci" if action == "attach-device" else "virtio-pci"
        run("timeout", "60", "sh", "-c", f"until {given.nic.driver_command} | grep -q {wanted}; do sleep 0.5; done")
    virsh("destroy", SHAPE.name)
    assert (given.nic.driver, given.disk.driver) == ("virtio-pci", "nvme")
    virsh("start", SHAPE.name)
    given.watch()
    move()
    given.assert_works()


def test_a_build_that_cannot_hand_them_over(given: Given) -> None:
    """QEMU 10.0, by its own answer."""
    client.install_qemu("NEW")
    report = client.upgrade(SHAPE.name, "--emulator", EMULATOR)
    (domain,) = report["domains"]
    codes = {finding["code"] for finding in domain["findings"]}
    assert (domain["result"], codes >= {"hostdev-build"}) == ("blocked", True), report
    given.assert_works()
    client.install_qemu("NEXT")


def test_what_was_never_run_is_refused(given: Given) -> None:
    """A setting of the device; mode live, in which QEMU migrates no such device."""
    odd = virsh("dumpxml", SHAPE.name).replace("<driver name='vfio'/>", "<driver name='vfio'/><rom bar='off'/>")
    (domain,) = json.loads(run("virtcpr", "check", "--xml", "-", "-o", "json", stdin=odd, check=False).out)["domains"]
    assert "hostdev-setting" in {finding["code"] for finding in domain["findings"]}
    (domain,) = client.upgrade("--mode", "live", "--emulator", builds.other(SHAPE.name), SHAPE.name)["domains"]
    assert domain["result"] == "blocked"
    assert "hostdev" in {finding["code"] for finding in domain["findings"]}


def test_interrupts_by_a_pin(given: Given) -> None:
    """INTx, which the kernel masks until QEMU has seen it: no MSI for the guest, and so none for its devices."""
    virsh("destroy", SHAPE.name)
    shell(f"virsh dumpxml --inactive {SHAPE.name} | sed 's/ pci=nomsi//; s/ quiet / quiet pci=nomsi /' | "
          "virsh -q define /dev/stdin")  # fmt: skip
    virsh("start", SHAPE.name)
    given.watch()
    given.assert_works(frozenset())
    move(2)
    given.assert_works(frozenset())
