"""Boot ROMs of interfaces, which QEMU loses track of: taken away by `prepare`, but from what the domain boots from."""

from __future__ import annotations

import re

import pytest

from tests.unit.support.edits import domain, transfer
from virtcpr.domain.live import LiveDomain


@pytest.mark.parametrize(
    ("interfaces", "taken", "left"),
    [
        ("", ["virtio-net-pci-base"], {"default"}),
        ("<model type='virtio-transitional'/>", ["virtio-net-pci-base"], set()),
        ("<model type='e1000'/>", ["virtio-net-pci-base", "e1000"], set()),
        ("<model type='e1000e'/>", ["virtio-net-pci-base", "e1000e"], set()),
        ("<model type='rtl8139'/>", ["virtio-net-pci-base", "rtl8139"], set()),
        ("<model type='pcnet'/>", ["virtio-net-pci-base"], {"pcnet"}),
        ("<model type='pcnet'/><rom enabled='no'/>", ["virtio-net-pci-base"], set()),
        ("<model type='virtio'/><rom file='/x'/>", ["virtio-net-pci-base"], {"virtio"}),
        ("<model type='virtio'/><boot order='2'/>", [], {"virtio"}),
    ],
)
def test_boot_roms_are_taken_from_interfaces_that_nothing_boots_from(
    interfaces: str, taken: list[str], left: set[str]
) -> None:
    once = transfer(domain(f"<devices><interface type='network'>{interfaces}</interface></devices>")).text
    assert re.findall(r"<qemu:arg value='([\w-]+)\.romfile='", once) == taken
    assert LiveDomain.of(once).boot_roms() == left


@pytest.mark.parametrize("os", ["<os firmware='efi'/>", "<os><loader type='pflash'>/code</loader></os>"])
def test_uefi_boots_from_others_than_virtio_by_their_roms(os: str) -> None:
    interfaces = "<interface><model type='e1000e'/></interface><interface><model type='virtio'/></interface>"
    once = transfer(domain(f"{os}<devices>{interfaces}</devices>")).text
    assert re.findall(r"<qemu:arg value='([\w-]+)\.romfile='", once) == ["virtio-net-pci-base"]
    assert LiveDomain.of(once).boot_roms() == {"e1000e"}


def test_a_domain_that_boots_from_the_network_keeps_its_boot_roms() -> None:
    text = domain("<os><boot dev='hd'/><boot dev='network'/></os>")
    assert "romfile" not in transfer(text).text
