"""The lab's guests are what their shapes say."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from tests.lab.support.guests import (
    DATABASE,
    IMAGES,
    LEGACY,
    OFFICE,
    SMALL,
    Disk,
    Shape,
    domain_xml,
    image_commands,
    kernel_command_line,
    watch_request,
)

SHAPES = [SMALL, OFFICE, DATABASE, LEGACY]
QEMU = "{http://libvirt.org/schemas/domain/qemu/1.0}"


def parsed(shape: Shape) -> ET.Element:
    return ET.fromstring(domain_xml(shape))


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_prepared_and_unprepared_differ_in_memory_alone(shape: Shape) -> None:
    prepared, unprepared = parsed(shape), parsed(replace(shape, prepared=False))
    arguments = [argument.get("value") for argument in prepared.iter(f"{QEMU}arg")]
    assert arguments == ["-machine", "aux-ram-share=on"]
    assert prepared.find("memoryBacking/source[@type='memfd']") is not None
    assert prepared.find("memoryBacking/access[@mode='shared']") is not None
    for tag in ("memoryBacking", f"{QEMU}commandline"):
        element = prepared.find(tag)
        assert element is not None
        prepared.remove(element)
        assert unprepared.find(tag) is None
    assert [child.tag for child in prepared] == [child.tag for child in unprepared]


def test_a_guest_of_the_emulated_host_has_kvm_and_vhost_net() -> None:
    guest = parsed(replace(SMALL, kvm=True))
    assert guest.get("type") == "kvm"
    assert [cpu.get("mode") for cpu in guest.findall("cpu")] == ["host-passthrough"]
    assert [driver.get("name") for driver in guest.findall("devices/interface/driver")] == ["vhost"]
    assert {(guest.findtext(f"os/{name}") or "").rpartition("/")[0] for name in ("kernel", "initrd")} == {IMAGES}


def test_hugepages_need_no_preparation() -> None:
    backing = parsed(replace(SMALL, hugepages=True, prepared=False)).find("memoryBacking")
    assert backing is not None
    assert [child.tag for child in backing] == ["hugepages"]


def test_ram_in_a_file_is_shared() -> None:
    backing = parsed(replace(SMALL, ram_file=True, prepared=False)).find("memoryBacking")
    assert backing is not None
    assert [(child.tag, child.attrib) for child in backing] == [
        ("source", {"type": "file"}),
        ("access", {"mode": "shared"}),
    ]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.name)
def test_every_disk_has_a_path_a_target_and_a_witness(shape: Shape) -> None:
    disks = parsed(shape).findall("devices/disk[@device='disk']")
    targets = [target.get("dev") for disk in disks for target in disk.findall("target")]
    assert len(targets) == len(set(targets)) == len(shape.disks)
    inside = kernel_command_line(shape).split("witness.disks=")[1].split()[0].split(",")
    assert len(set(inside)) == len(shape.disks)
    made = {word for command in image_commands(shape) for word in command}
    assert {source.get("file") for disk in disks for source in disk.iter("source")} <= made


def test_targets_of_one_prefix_are_counted_over_buses() -> None:
    shape = replace(SMALL, disks=(Disk("scsi"), Disk("sata"), Disk("virtio")), cdrom="/cd.iso")
    targets = [target.get("dev") for target in parsed(shape).iter("target") if target.get("bus")]
    assert targets == ["sda", "sdb", "vda", "sdc"]


def test_an_overlay_is_created_after_its_base() -> None:
    base, overlay, _ = image_commands(DATABASE)
    assert base[-2] == overlay[overlay.index("-b") + 1] == overlay[-2] + ".base"


def test_copies_of_a_shape_share_nothing() -> None:
    one, other = SMALL, replace(SMALL, name="other", number=99)
    macs = {parsed(shape).find("devices/interface/mac").get("address") for shape in (one, other)}  # type: ignore[union-attr]
    assert len(macs) == 2
    assert one.ip != other.ip
    assert one.disk_path(0) != other.disk_path(0)


def test_second_nic_is_watched_on_demand() -> None:
    assert watch_request(DATABASE) == {"op": "watch", "id": 12, "ip": "192.168.122.13"}
    assert watch_request(DATABASE, second_nic=True)["ip2"] == "192.168.123.13"
    assert "ip2" not in watch_request(SMALL, second_nic=True)


@pytest.mark.parametrize("number", [9, 201])
def test_numbers_outside_the_subnet_are_refused(number: int) -> None:
    with pytest.raises(ValueError, match="guest number"):
        replace(SMALL, number=number)
