"""Devices of the host that a guest has (VFIO): which builds hand them over, and with what that was run."""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject

PCI = "devices/hostdev[@type='pci'] or devices/interface/@type='hostdev'"
OTHERS = "devices/hostdev[not(@type='pci')]"
# What was run of an element (tests/host/test_vfio.py); libvirt adds the alias.
RUN = frozenset({"source", "address", "alias", "driver"})


def build_without(subject: Subject) -> Iterator[Hit]:
    """Both builds must know how: old QEMU sends the descriptors, new QEMU takes them."""
    if not subject.live.matches(PCI):
        return
    emulator, qemu = subject.facts.emulator, subject.facts.qemu
    if not emulator.problem and not emulator.vfio:
        yield {"build": f"the emulator {emulator.path} ({emulator.version})"}
    if qemu is not None and not qemu.vfio:
        yield {"build": f"QEMU {qemu.version}, which it runs in,"}


def untried(subject: Subject) -> Iterator[Hit]:
    """An allow-list: what was never run isn't promised."""
    devices = tuple(subject.live.host_devices())
    words = {f"<{part}>" for device in devices for part in device.parts if part not in RUN}
    words |= {f"<driver {key}>" for device in devices for key, value in device.driver.items() if value != "vfio"}
    if any(device.element == "interface" for device in devices):
        words.add("<interface type='hostdev'>")
    if devices and subject.live.matches("devices/iommu"):
        words.add("an IOMMU in the guest")
    if devices and not subject.live.matches("self::domain[@type='kvm']"):
        words.add("emulated CPUs")
    for what in sorted(words):
        yield {"what": what}
