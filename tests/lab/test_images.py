"""Disk images that aren't what the guest started with, and what libvirt sets on them: as they are, on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab import client
from tests.lab.client import run, shell, virsh
from tests.lab.comparing import differences, picture
from tests.lab.conftest import Guests
from tests.lab.guests import IMAGES, SMALL, Disk, Shape, domain_xml, image_commands
from tests.lab.machine import Lab
from tests.lab.opened import Opened
from tests.lab.test_failure import EMULATOR
from tests.lab.test_repeat import KEPT

# Its firmware is in images, too; the witness writes to all its disks, and reads back what it wrote.
OWN = replace(
    SMALL,
    name="images",
    number=60,
    firmware="ovmf",
    disks=(Disk("virtio", backed=True), Disk("scsi", "raw"), Disk("virtio", "raw")),
)
BASE, TOP, SCSI, RAW = f"{OWN.disk_path(0)}.base", OWN.disk_path(0), OWN.disk_path(1), OWN.disk_path(2)


def image(name: str) -> str:
    return f"{IMAGES}/{OWN.name}-{name}"


def define(shape: Shape, extra: str = "") -> None:
    commands = "\n".join(" ".join(command) for command in image_commands(shape))
    xml = domain_xml(shape).replace("</devices>", f"{extra}</devices>")
    shell(f"{commands}\nvirsh -q define /dev/stdin; virsh -q start {shape.name}", stdin=xml)


class Guest:
    """A guest that goes to and fro between two releases of QEMU."""

    def __init__(self, shape: Shape, world: Guests) -> None:
        self.shape, self.world = shape, world
        self.turn = 0

    def moves(self) -> None:
        """It goes over to the other QEMU, with everything that it has."""
        name = self.shape.name
        before = picture(name)
        self.world.witness.mark()
        self.turn += 1
        report = client.upgrade(name, "--emulator", EMULATOR if self.turn % 2 else KEPT)
        assert report["domains"][0]["result"] == "upgraded", report
        assert report["domains"][0]["findings"] == [], report
        assert differences(before, picture(name)) == []
        self.world.assert_well(self.shape)


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    """Started in OLD, whose binary is kept beside the installed NEW."""
    world = Guests()
    define(OWN)
    world.adopt(OWN)
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    world.watch(OWN)
    yield Guest(OWN, world)
    world.end()


def snapshot(name: str, **disks: str) -> None:
    specs = [word for disk, path in disks.items() for word in ("--diskspec", f"{disk},file={path}")]
    left = [word for disk in {"vda", "sda", "vdb"} - disks.keys() for word in ("--diskspec", f"{disk},snapshot=no")]
    virsh("snapshot-create-as", OWN.name, name, "--disk-only", "--no-metadata", *specs, *left)


def test_snapshots(guest: Guest) -> None:
    snapshot("s1", vda=image("a1"), sda=image("s1"), vdb=image("b1"))
    guest.moves()
    snapshot("s2", vda=image("a2"), sda=image("s2"))
    guest.moves()


def test_commits_and_pulls(guest: Guest) -> None:
    """What was committed away is no image of the guest's any more, whatever the command line says: it may be another's
    by now."""
    virsh("blockcommit", OWN.name, "vda", "--top", image("a1"), "--base", TOP, "--wait")
    virsh("blockcommit", OWN.name, "sda", "--active", "--pivot", "--wait")
    virsh("blockpull", OWN.name, "vdb", "--wait")
    left = (image("s1"), image("s2"), RAW)
    shell(f"rm {image('a1')}; for F in {' '.join(left)}; do dd if=/dev/urandom of=$F bs=64k count=4 status=none; done")
    sums = shell(f"sha256sum {' '.join(left)}")
    watch = Opened(*left)
    guest.moves()
    assert watch.end() == []
    assert shell(f"sha256sum {' '.join(left)}") == sums

    virsh("blockcommit", OWN.name, "vda", "--active", "--pivot", "--base", BASE, "--wait")
    left = (image("a2"), TOP)
    shell(f"for F in {' '.join(left)}; do dd if=/dev/urandom of=$F bs=64k count=4 status=none; done")
    watch = Opened(*left)
    guest.moves()
    run("cat", TOP)
    assert watch.end() == [TOP], "the watch sees who opens a file"


def test_copies(guest: Guest) -> None:
    """To another format and back."""
    for path, kind in ((image("c1"), "qcow2"), (image("c2"), "raw")):
        source = virsh("domblklist", OWN.name, "--details").split("vdb")[1].split()[0]
        virsh("blockcopy", OWN.name, "vdb", path, "--format", kind, "--transient-job", "--wait", "--pivot")
        shell(f"dd if=/dev/urandom of={source} bs=64k count=4 status=none")
        watch = Opened(source)
        guest.moves()
        assert watch.end() == []


def test_limits(guest: Guest) -> None:
    """Throttling, alone and in a group, write thresholds, a new size."""
    name = OWN.name
    virsh("blkdeviotune", name, "vda", "--total-iops-sec", "400", "--total-iops-sec-max", "500", "--size-iops-sec", "8192")
    for disk in ("sda", "vdb"):
        virsh("blkdeviotune", name, disk, "--write-bytes-sec", "8000000", "--group-name", "slow")
    virsh("domblkthreshold", name, "sda", "40M")
    virsh("blockresize", name, "sda", "80M")
    guest.moves()
    virsh("blkdeviotune", name, "vda", "--total-iops-sec", "300")
    for disk in ("sda", "vdb"):
        virsh("blkdeviotune", name, disk, "--write-bytes-sec", "0")
    virsh("domblkthreshold", name, "sda", "0")
    guest.moves()
    virsh("blkdeviotune", name, "vda", "--total-iops-sec", "0")
