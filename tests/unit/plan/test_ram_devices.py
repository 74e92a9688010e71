"""What `prepare` says of a device or a memfd that is to hold a guest's RAM, and that QEMU could not open."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virtcpr.domain.facts import DomainFacts, Emulator, HostFacts, RamDevice
from virtcpr.model import Mode, Severity
from virtcpr.plan.findings.prepare_rules import preparing

XML = "<domain type='kvm'><name>web</name></domain>"
FINE = RamDevice("/dev/dax0.0", True, "libvirt-qemu", True, ("/dev/null", "/dev/dax0.0"), True, True)
UDEV = 'SUBSYSTEM=="dax", KERNEL=="dax0.0", OWNER="libvirt-qemu", MODE="0600"'


@pytest.mark.parametrize(
    ("device", "expected"),
    [
        (FINE, {}),
        (replace(FINE, confined=False, allowed=False), {}),
        (replace(FINE, there=False, opens=False), {"ram-device": "ndctl create-namespace --mode=devdax"}),
        (replace(FINE, opens=False), {"ram-device-user": UDEV}),
        (replace(FINE, acl=("/dev/null",)), {"ram-device-acl": 'cgroup_device_acl = ["/dev/null", "/dev/dax0.0"]'}),
        (replace(FINE, allowed=False), {"ram-device-apparmor": "'/dev/dax0.0 rw,'"}),
    ],
)
def test_a_device_that_qemu_could_not_open(device: RamDevice, expected: dict[str, str]) -> None:
    """The remedies are lines to be pasted, as the emulated host needed them."""
    facts = DomainFacts("web", "", None, "", "", XML, Emulator(""), persistent_xml=XML, ram_devices=(device,))
    found = {one.code: one for one in preparing(facts, Mode.REBOOT, "reboot-dax", XML)}
    assert found.keys() == expected.keys()
    assert all(line in found[code].remedy for code, line in expected.items())
    assert all(one.severity is Severity.BLOCKER for one in found.values())


@pytest.mark.parametrize(
    ("backing", "confined", "found"),
    [
        ("<hugepages/><source type='memfd'/>", True, ["hugepages-apparmor"]),
        ("<hugepages/><source type='memfd'/></memoryBacking><seclabel type='none'/><memoryBacking>", True, []),
        ("<hugepages/><source type='memfd'/>", False, []),
        ("<hugepages/>", True, []),
        ("<source type='memfd'/>", True, []),
    ],
)
def test_a_memfd_of_huge_pages_that_apparmor_lets_nobody_make(backing: str, confined: bool, found: list[str]) -> None:
    edited = XML.replace("</domain>", f"<memoryBacking>{backing}</memoryBacking></domain>")
    host = HostFacts(1 << 20, {}, confines_memfds=confined)
    facts = DomainFacts("web", "", None, "", "", XML, Emulator(""), persistent_xml=XML, host=host)
    said = preparing(facts, Mode.TRANSFER, "transfer", edited)
    assert [one.code for one in said] == found
    assert all("the line 'owner / rw,'" in one.remedy and one.severity is Severity.BLOCKER for one in said)
