"""What the host must allow before QEMU can open a device that is to hold a guest's RAM (template reboot-dax)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from virtcpr.domain.facts import RamDevice
from virtcpr.model import Mode
from virtcpr.plan.findings.rule import Hit, Needs, Rule, Subject, Test

PREPARED = (Mode.TRANSFER, Mode.REBOOT)


def _device(lacks: Callable[[RamDevice], bool]) -> Test:
    """Devices for RAM that lack something before QEMU can open them."""

    def test(subject: Subject) -> Iterator[Hit]:
        for device in subject.facts.ram_devices:
            if lacks(device):
                acl = ", ".join(f'"{path}"' for path in (*device.acl, device.path))
                yield {
                    "path": device.path,
                    "node": device.path.rpartition("/")[2],
                    "user": device.user,
                    "acl": acl,
                }

    return test


# fmt: off
RAM_DEVICES: tuple[Rule, ...] = (
    Rule("ram-device", PREPARED, Needs.LIBVIRT, _device(lambda device: not device.there),
         "its RAM would be on {path}, which isn't a device of this host",
         "make it ('ndctl create-namespace --mode=devdax'), or name another in the template: see 'daxctl list'",
         "QEMU backends/hostmem-file.c"),
    Rule("ram-device-user", PREPARED, Needs.LIBVIRT, _device(lambda device: device.there and not device.opens),
         "its RAM would be on {path}, which QEMU's user {user} may not open",
         "put into /etc/udev/rules.d/60-virtcpr.rules: "
         'SUBSYSTEM=="dax", KERNEL=="{node}", OWNER="{user}", MODE="0600" -- '
         "then 'udevadm control --reload' and 'udevadm trigger --settle {path}'",
         "libvirt qemuDomainNamespaceMknodOne()"),
    Rule("ram-device-acl", PREPARED, Needs.LIBVIRT, _device(lambda device: device.path not in device.acl),
         "its RAM would be on {path}, which libvirt shows to no QEMU, and lets none open",
         "in /etc/libvirt/qemu.conf: cgroup_device_acl = [{acl}] -- then restart libvirt's daemon",
         "libvirt src/qemu/qemu_cgroup.c defaultDeviceACL"),
    Rule("ram-device-apparmor", PREPARED, Needs.LIBVIRT, _device(lambda device: device.confined and not device.allowed),
         "its RAM would be on {path}, which AppArmor lets no QEMU open",
         "put into /etc/apparmor.d/local/abstractions/libvirt-qemu the lines '{path} rw,' and "
         "'/sys/devices/**/{node}/** r,'", "libvirt virt-aa-helper; AppArmor abstractions/libvirt-qemu"),
)
# fmt: on
