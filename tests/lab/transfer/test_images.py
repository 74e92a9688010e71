"""Disk images that aren't what the guest started with, and what libvirt sets on them: as they are, on both sides."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import Guests
from tests.lab.support import client
from tests.lab.support.builds import EMULATOR
from tests.lab.support.client import run, shell, virsh
from tests.lab.support.compare import View, differences, picture
from tests.lab.support.guests import IMAGES, SMALL, Disk, domain_xml, image_commands
from tests.lab.support.leftovers import KEPT
from tests.lab.support.machine import Lab
from tests.lab.support.open_files import Opened

# Its firmware is in images, too.  The witness writes to its first three disks, and reads back what it wrote.
OWN = replace(
    SMALL,
    name="images",
    number=60,
    disks=(Disk("virtio", backed=True), Disk("scsi", "raw"), Disk("virtio", "raw")),
)
NAME = OWN.name
BASE, TOP, RAW = f"{OWN.disk_path(0)}.base", OWN.disk_path(0), OWN.disk_path(2)
SECRET = "11111111-2222-3333-4444-555555555555"


def image(name: str) -> str:
    return f"{IMAGES}/{NAME}-{name}"


def disk(
    target: str,
    bus: str,
    driver: str = "type='raw'",
    more: str = "",
    inside: str = "",
    device: str = "disk",
    source: str = "",
) -> str:
    """A disk; ``inside`` stands in its source, ``more`` beside it."""
    source = source or f"file='{image(target)}'"
    kind = "network" if "protocol" in source else "file"
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' {driver}/><source {source}>{inside}</source>"
        f"<target dev='{target}' bus='{bus}'/>{more}</disk>"
    )


LUKS = f"<encryption format='luks'><secret type='passphrase' uuid='{SECRET}'/></encryption>"
NBD_UNIX = "<host transport='unix' socket='/run/virtcpr-nbd.sock'/>"
NBD_TCP = "<host name='127.0.0.1' port='10809'/><reconnect delay='5'/>"
COLD = (
    disk("vdc", "virtio", "type='qcow2'", inside=LUKS),
    disk(
        "vdd",
        "virtio",
        "type='raw' cache='none' io='native' discard='unmap' detect_zeroes='unmap'",
        "<iotune><total_iops_sec>500</total_iops_sec></iotune>",
    ),
    disk("vde", "virtio", "type='qcow2' copy_on_read='on'"),
    disk("vdf", "virtio", source="protocol='nbd' name='one'", inside=NBD_UNIX),
    disk("vdg", "virtio", more="<throttlefilters><throttlefilter group='limit0'/></throttlefilters>"),
    disk("sdb", "scsi", more="<readonly/>"),
    disk("sdc", "scsi", more="<shareable/>"),
    disk("sdd", "sata", more="<readonly/>", device="cdrom"),
    disk("fda", "fdc", device="floppy"),
)
GROUP = (
    "<throttlegroups><throttlegroup><group_name>limit0</group_name><total_iops_sec>100</total_iops_sec></throttlegroup>"
    "</throttlegroups>"
)
PORTS = "<controller type='pci' model='pcie-root'/>" + "<controller type='pci' model='pcie-root-port'/>" * 14
HOT = (
    disk("vdk", "virtio", "type='raw' cache='none' io='threads' discard='unmap'"),
    disk("sdk", "scsi", "type='qcow2' cache='writethrough'", more="<serial>hot</serial>"),
    disk("sdl", "usb"),
    disk("vdl", "virtio", "type='qcow2' copy_on_read='on'", inside=LUKS),
    disk("vdm", "virtio", source="protocol='nbd' name='two'", inside=NBD_TCP),
    disk("sdm", "scsi", inside="<slices><slice type='storage' offset='1048576' size='2097152'/></slices>"),
    disk("sdn", "scsi", more="<readonly/>", device="cdrom"),
    disk("sdj", "scsi", more="<throttlefilters><throttlefilter group='limit0'/></throttlefilters>"),
)
IMAGE_COMMANDS = f"""
cd {IMAGES}
luks="--object secret,id=s,data=sesame -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
qemu-img create -q -f qcow2 $luks {NAME}-vdc 16M
qemu-img create -q -f qcow2 $luks {NAME}-vdl 16M
qemu-img create -q -f qcow2 -o data_file={NAME}-vde.data,data_file_raw=on {NAME}-vde 16M
qemu-img create -q -f qcow2 {NAME}-sdk 16M
for D in vdd vdg sdb sdc sdd vdk sdl sdm sdn sdj iso1 iso2; do truncate -s 8M {NAME}-$D; done
truncate -s 1440K {NAME}-fda {NAME}-floppy
truncate -s 8M /srv/one /srv/two
systemd-run -q --unit=nbd-one qemu-nbd -t -e 4 -f raw -k /run/virtcpr-nbd.sock -x one /srv/one
systemd-run -q --unit=nbd-two qemu-nbd -t -e 4 -f raw -b 127.0.0.1 -x two /srv/two
timeout 10 sh -c 'until test -S /run/virtcpr-nbd.sock; do sleep 0.1; done'; chmod 777 /run/virtcpr-nbd.sock
virsh -q secret-define /dev/stdin <<X
<secret ephemeral='no' private='no'><uuid>{SECRET}</uuid><usage type='volume'><volume>{NAME}</volume></usage></secret>
X
printf sesame > /root/sesame; virsh -q secret-set-value {SECRET} --file /root/sesame --plain
"""


def begin() -> None:
    commands = "\n".join(" ".join(command) for command in image_commands(OWN))
    shell(commands + IMAGE_COMMANDS)
    xml = (
        domain_xml(OWN)
        .replace("<devices>", f"{GROUP}<devices>{PORTS}")
        .replace("</devices>", f"{''.join(COLD)}</devices>")
    )
    shell(f"virsh -q define /dev/stdin; virsh -q start {NAME}", stdin=xml)


def looks() -> View:
    """But for the geometry, which a disk takes from its size when it is made (hd_geometry_guess)."""
    found = picture(NAME)
    found["qtree"] = {
        name: [line for line in lines if not line.startswith("cyls = ")] for name, lines in found["qtree"].items()
    }
    found["graph"] = {stat["qdev"]: json.dumps(under(stat)) for stat in client.monitor(NAME, "query-blockstats")}
    for node in client.monitor(NAME, "query-named-block-nodes", flat=True):
        bitmaps = [bitmap["name"] for bitmap in node.get("dirty-bitmaps", []) if bitmap["persistent"]]
        told = [node[key] for key in ("write_threshold", "detect_zeroes", "cache", "encrypted")]
        found["nodes"][node["node-name"] + " is"] = [*told, *bitmaps]
    group = {"path": "/objects/throttle-limit0", "property": "limits"}
    found["limits"] = [client.monitor(NAME, "qom-get", **group)]
    return found


def under(node: dict[str, object]) -> list[object]:
    """A node, and what it is on top of."""
    children = [under(child) for key in ("parent", "backing") if isinstance(child := node.get(key), dict)]
    return [node.get("node-name"), *children]


class Guest:
    """A guest that goes to and fro between two releases of QEMU."""

    def __init__(self, world: Guests) -> None:
        self.world = world
        self.turn = 0

    def moves(self) -> None:
        """It goes over to the other QEMU, with everything that it has."""
        before = looks()
        self.world.witness.mark()
        self.turn += 1
        report = client.upgrade(NAME, "--emulator", EMULATOR if self.turn % 2 else KEPT)
        assert report["domains"][0]["result"] == "upgraded", report
        assert report["domains"][0]["findings"] == [], report
        changed = differences(before, looks())
        assert changed == [], changed
        self.world.assert_well(OWN)

    def reboots(self) -> None:
        """It comes up again with all that it had."""
        kept = ("devices", "nodes", "drives", "graph")
        before = looks()
        virsh("reset", NAME)
        self.world.watch(OWN)
        after = looks()
        assert {view: after[view] for view in kept} == {view: before[view] for view in kept}
        self.world.assert_well(OWN)


@pytest.fixture(scope="module")
def guest(lab: Lab) -> Iterator[Guest]:
    """Started in OLD, whose binary is kept beside the installed NEW."""
    world = Guests()
    begin()
    world.adopt(OWN)
    run("cp", EMULATOR, KEPT)
    client.install_qemu("NEW")
    world.watch(OWN)
    yield Guest(world)
    world.end()


def specs(*of_some: str, rest: str) -> list[str]:
    """``--diskspec`` of some disks, and of the others."""
    named = {spec.partition(",")[0] for spec in of_some}
    targets = [line.split()[0] for line in virsh("domblklist", NAME).splitlines() if line]
    found = (*of_some, *(f"{target},{rest}" for target in targets if target not in named))
    return [word for spec in found for word in ("--diskspec", spec)]


def snapshot(name: str, *disks: str) -> None:
    words = specs(*(f"{target},file={image(name + target)}" for target in disks), rest="snapshot=no")
    virsh("snapshot-create-as", NAME, name, "--disk-only", "--no-metadata", *words)


def commit(target: str, *more: str) -> None:
    virsh("blockcommit", NAME, target, "--wait", *more)


def overwrite(*paths: str) -> str:
    """Something else is in these now; what, by its sum."""
    for path in paths:
        run("dd", "if=/dev/urandom", f"of={path}", "bs=64k", "count=4", "status=none")
    return run("sha256sum", *paths).out


def test_snapshots(guest: Guest) -> None:
    """On images of all kinds."""
    snapshot("s1", "vda", "sda", "vdb", "vdc", "vdd", "vde", "vdf", "vdg")
    snapshot("s2", "vda", "sda")
    guest.moves()


def test_commits_and_pulls(guest: Guest) -> None:
    """What was committed away is no image of the guest's any more, whatever the command line says: it may be another's
    by now."""
    commit("vda", "--top", image("s1vda"), "--base", TOP)
    for target in ("sda", "vdc", "vdd", "vde", "vdf"):
        commit(target, "--active", "--pivot")
    virsh("blockpull", NAME, "vdb", "--wait")
    run("rm", image("s1vda"))
    left = (image("s1sda"), image("s2sda"), image("s1vdd"), RAW)
    sums = overwrite(*left)
    watch = Opened(*left)
    guest.moves()
    assert watch.end() == []
    assert run("sha256sum", *left).out == sums

    commit("vda", "--active", "--pivot", "--base", BASE)
    overwrite(image("s2vda"), TOP)
    watch = Opened(image("s2vda"), TOP)
    guest.moves()
    run("head", "-c0", TOP)
    assert watch.end() == [TOP], "the watch sees who opens a file"


def test_copies(guest: Guest) -> None:
    """To an image of the same format and to one of another."""
    targets = {"sda": "raw", "vdb": "raw", "vdd": "qcow2"}
    listed = (line.split() for line in virsh("domblklist", NAME).splitlines() if line)
    sources = [words[1] for words in listed if words[0] in targets]
    for target, kind in targets.items():
        path = image(f"copy-{target}")
        virsh("blockcopy", NAME, target, path, "--format", kind, "--transient-job", "--wait", "--pivot")
    overwrite(*sources)
    watch = Opened(*sources)
    guest.moves()
    guest.reboots()
    assert watch.end() == []


def test_limits(guest: Guest) -> None:
    """Throttling, alone and in a group, write thresholds, a new size; and what backups know of what was written."""
    checkpoint = specs("vdc,checkpoint=bitmap", rest="checkpoint=no")
    virsh("checkpoint-create-as", NAME, "since", *checkpoint)
    virsh("blkdeviotune", NAME, "vda", "--total-iops-sec", "400", "--total-iops-sec-max", "500")
    for target in ("sda", "vdb"):
        virsh("blkdeviotune", NAME, target, "--write-bytes-sec", "8000000", "--group-name", "slow")
    virsh("domthrottlegroupset", NAME, "limit0", "--total-iops-sec", "77", "--live")
    virsh("domblkthreshold", NAME, "vdc", "4M")
    virsh("blockresize", NAME, "sda", "80M")
    guest.moves()

    virsh("blkdeviotune", NAME, "vda", "--total-iops-sec", "0", "--total-iops-sec-max", "0")
    for target in ("sda", "vdb"):
        virsh("blkdeviotune", NAME, target, "--write-bytes-sec", "0")
    virsh("domblkthreshold", NAME, "vdc", "0")
    guest.moves()
    virsh("checkpoint-delete", NAME, "since")


def test_media(guest: Guest) -> None:
    """Another medium, none, an open tray, and another one again."""
    first = (image("sdd"), image("fda"))
    virsh("change-media", NAME, "sdd", image("iso1"), "--update")
    virsh("change-media", NAME, "fda", image("floppy"), "--update")
    overwrite(*first)
    watch = Opened(*first)
    guest.moves()
    assert watch.end() == []

    virsh("change-media", NAME, "sdd", "--eject")
    virsh("change-media", NAME, "fda", "--eject")
    run("rm", *first)
    guest.moves()

    virsh("change-media", NAME, "sdd", image("iso2"), "--insert")
    (drive,) = (d for d in client.monitor(NAME, "query-block") if d.get("inserted", {}).get("file") == image("iso2"))
    client.monitor(NAME, "blockdev-open-tray", id=drive["qdev"], force=True)
    guest.moves()
    assert picture(NAME)["drives"][drive["qdev"]][1] is True
    virsh("change-media", NAME, "sdd", "--eject")


def test_attached_disks(guest: Guest) -> None:
    """They come along, can be used and taken off; and then new QEMU doesn't have them."""
    for text in HOT:
        shell(f"virsh -q attach-device {NAME} /dev/stdin", stdin=text)
    guest.moves()
    guest.reboots()
    snapshot("s3", "vdk", "sdk", "vdl")
    guest.moves()
    commit("sdk", "--active", "--pivot")
    for target in ("vdk", "sdk", "sdl", "vdl", "vdm", "sdm", "sdn", "sdj"):
        virsh("detach-disk", NAME, target)
    wait = f"while virsh domblklist {NAME} | grep -qE 'vdk|sdk|sdl|vdl|vdm|sdm|sdn|sdj'; do sleep 0.2; done"
    run("timeout", "30", "sh", "-c", wait)
    watch = Opened(image("sdl"), image("s3vdk"), image("sdk"))
    guest.moves()
    assert watch.end() == []
