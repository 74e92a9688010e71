"""The lab's guests: shapes, the libvirt domains they become, the images these need.  Pure: runs nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass, replace
from typing import Literal

WITNESS = "/usr/lib/virtcpr-lab/witness"
IMAGES = "/var/lib/libvirt/images"
LOGS = "/var/log/libvirt/qemu"
NVRAM = "/var/lib/libvirt/qemu/nvram"
OVMF_CODE, OVMF_VARS = "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"
OVMF_SECURE = "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"

# What the kernel does as it boots that only takes time under emulation, by `initcall_debug`: a second in all.
UNUSED = (
    "load_system_certificate_list",
    "bpf_tcp_ca_kfunc_init",
    "bpf_dummy_struct_ops_init",
    "jent_mod_init",
    "trace_eval_init",
    "sed_opal_init",
    "init_encrypted",
)

# First NICs are in libvirt's default network.  Second ones are on the same bridge, in a subnet of their
# own: to reach them the bridge needs this address, too.
FIRST_SUBNET, SECOND_SUBNET = "192.168.122", "192.168.123"
SECOND_HOST_ADDRESS = f"{SECOND_SUBNET}.1/24"

Bus = Literal["virtio", "scsi", "sata", "ide"]
TARGETS: dict[Bus, str] = {"virtio": "vd", "scsi": "sd", "sata": "sd", "ide": "hd"}


@dataclass(frozen=True)
class Disk:
    bus: Bus = "virtio"
    format: Literal["qcow2", "raw"] = "qcow2"
    path: str = ""  # default: named after the guest
    backed: bool = False  # an overlay over a base image, `path`.base
    mib: int = 64


@dataclass(frozen=True)
class Shape:
    """A guest.  `dataclasses.replace(SMALL, name=..., number=...)` makes another of the same shape."""

    name: str
    number: int  # the witness's id; also decides the addresses
    uuid: str = ""
    kvm: bool = False  # with the host's CPU and vhost-net, for the emulated host (tests/host): the lab has neither
    memory_mib: int = 256
    vcpus: int = 1
    machine: str = "q35"
    firmware: Literal["bios", "ovmf", "secboot"] = "bios"  # "secboot": for Secure Boot, with keys for nobody
    disks: tuple[Disk, ...] = (Disk(),)
    cdrom: str = ""  # the path of its image
    nics: int = 1
    iothreads: int = 0
    hugepages: bool = False
    vnc: bool = False
    agent: bool = False
    serial: Literal["pty", "file", "log"] = "pty"  # "log": a pty that libvirt also logs
    usb_tablet: bool = False
    balloon: bool = False
    rng: bool = False
    watchdog: bool = False
    panics: bool = False  # it has a panic device, and is reset after a panic, not destroyed
    prepared: bool = True  # for mode transfer: its RAM is a shared memfd, as is QEMU's own
    ram_file: bool = False  # its RAM is a shared file of libvirt's instead, which mode reboot leaves in place
    ram_mib: int = 64  # how much of the memory the witness verifies
    # The witness's pauses; with those of a lively guest an emulated one takes more than half a processor.
    interval_us: int = 20_000  # between two heartbeats
    ram_pause_us: int = 60_000  # between two MiB of RAM
    disk_pause_us: int = 100_000  # between two rounds of a disk
    kernel_options: str = ""
    packed: bool = False  # its kernel unpacks itself, as everybody's does, which takes a second under emulation

    def __post_init__(self) -> None:
        if not 10 <= self.number <= 200:
            raise ValueError(f"guest number {self.number} is not in 10..200")
        if not 0 <= self.nics <= 2:
            raise ValueError(f"{self.nics} NICs: the witness knows two")

    @property
    def ip(self) -> str:
        return f"{FIRST_SUBNET}.{self.number + 1}"

    @property
    def ip2(self) -> str:
        return f"{SECOND_SUBNET}.{self.number + 1}" if self.nics > 1 else ""

    @property
    def serial_path(self) -> str:
        """Where the console's output is kept; "" if nowhere."""
        return "" if self.serial == "pty" else f"{LOGS}/{self.name}-serial.log"

    @property
    def nvram_path(self) -> str:
        return f"{NVRAM}/{self.name}_VARS.fd" if self.firmware != "bios" else ""

    def disk_path(self, index: int) -> str:
        disk = self.disks[index]
        return disk.path or f"{IMAGES}/{self.name}-{index}.{disk.format}"


SMALL = Shape("small", 10)

OFFICE = Shape(
    "office",
    11,
    memory_mib=384,
    firmware="ovmf",
    disks=(Disk("sata", "raw"),),
    cdrom=f"{IMAGES}/office.iso",
    vnc=True,
    agent=True,
    usb_tablet=True,
    balloon=True,
    rng=True,
)

DATABASE = Shape(
    "database",
    12,
    memory_mib=512,
    vcpus=2,
    disks=(Disk("virtio", "qcow2", backed=True), Disk("scsi", "raw")),
    nics=2,
    iothreads=1,
    agent=True,
    serial="file",
    watchdog=True,
    ram_mib=128,
)

LEGACY = Shape("legacy", 13, machine="pc", disks=(Disk("ide", "qcow2"), Disk("virtio", "raw")), vnc=True)


def domain_xml(shape: Shape) -> str:
    domain = ET.Element("domain", {"type": "kvm" if shape.kvm else "qemu", "xmlns:qemu": QEMU_NAMESPACE})
    _text(domain, "name", shape.name)
    if shape.uuid:
        _text(domain, "uuid", shape.uuid)
    _text(domain, "memory", str(shape.memory_mib), unit="MiB")
    _text(domain, "vcpu", str(shape.vcpus))
    if shape.iothreads:
        _text(domain, "iothreads", str(shape.iothreads))
    _memory_backing(domain, shape)
    _os(domain, shape)
    _tree(domain, "features", "acpi", "apic", *([("smm", {"state": "on"})] if shape.firmware == "secboot" else []))
    if shape.kvm:
        ET.SubElement(domain, "cpu", mode="host-passthrough", check="none", migratable="on")
    crash = "restart" if shape.panics else "destroy"
    for event, action in (("poweroff", "destroy"), ("reboot", "restart"), ("crash", crash)):
        _text(domain, f"on_{event}", action)
    _devices(ET.SubElement(domain, "devices"), shape)
    if shape.prepared:
        commandline = ET.SubElement(domain, "qemu:commandline")
        for value in ("-machine", "aux-ram-share=on"):
            ET.SubElement(commandline, "qemu:arg", value=value)
    ET.indent(domain)
    return ET.tostring(domain, encoding="unicode") + "\n"


def lively(shape: Shape) -> Shape:
    """One whose heartbeats show each millisecond that it is paused, and what two owners take of the processors."""
    return replace(shape, interval_us=2000, ram_pause_us=20_000, disk_pause_us=30_000)


def kernel_command_line(shape: Shape) -> str:
    options = {
        "id": str(shape.number),
        "ip": shape.ip if shape.nics else "",
        "ip2": shape.ip2,
        "peer": f"{FIRST_SUBNET}.1",
        "interval": str(shape.interval_us),
        "ram": str(shape.ram_mib),
        "ram_pause": str(shape.ram_pause_us),
        "disk_pause": str(shape.disk_pause_us),
        "disks": ",".join(_devices_seen_inside(shape)),
        "cdrom": "/dev/sr0" if shape.cdrom else "",
    }
    witness = " ".join(f"witness.{name}={value}" for name, value in options.items() if value)
    quick = f"mitigations=off nokaslr no_timer_check rodata=off initcall_blacklist={','.join(UNUSED)}"
    return f"console=ttyS0 quiet panic=-1 {quick} {witness} {shape.kernel_options}".strip()


def image_commands(shape: Shape) -> list[list[str]]:
    """The commands (argv) that make the images of a guest's disks and CD-ROM."""
    commands = []
    for index, disk in enumerate(shape.disks):
        path, size = shape.disk_path(index), f"{disk.mib}M"
        overlay = []
        if disk.backed:
            commands.append(_create("qcow2", f"{path}.base", size))
            overlay = ["-b", f"{path}.base", "-F", "qcow2"]
        commands.append(_create(disk.format, path, size, *overlay))
    if shape.cdrom:
        commands.append(["dd", "if=/dev/urandom", f"of={shape.cdrom}", "bs=64K", "count=16", "status=none"])
    return commands


def watch_request(shape: Shape, second_nic: bool = False) -> dict[str, object]:
    """What makes watch.py watch the guest; its second NIC, too, if the host has an address there."""
    request: dict[str, object] = {"op": "watch", "id": shape.number, "ip": shape.ip}
    return request | {"ip2": shape.ip2} if second_nic and shape.ip2 else request


def _create(image_format: str, path: str, size: str, *more: str) -> list[str]:
    return ["qemu-img", "create", "-q", "-f", image_format, *more, path, size]


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


def _tree(parent: ET.Element, tag: str, *children: str | tuple[str, dict[str, str]], **attributes: str) -> ET.Element:
    """An element with children that have nothing but attributes."""
    element = ET.SubElement(parent, tag, attributes)
    for child in children:
        name, values = (child, {}) if isinstance(child, str) else child
        ET.SubElement(element, name, values)
    return element


def _memory_backing(domain: ET.Element, shape: Shape) -> None:
    children: list[str | tuple[str, dict[str, str]]] = []
    if shape.hugepages:
        children.append("hugepages")
    if shape.prepared or shape.ram_file:
        source = "file" if shape.ram_file else "memfd"
        children += [("source", {"type": source}), ("access", {"mode": "shared"})]
    if children:
        _tree(domain, "memoryBacking", *children)


def _os(domain: ET.Element, shape: Shape) -> None:
    element = ET.SubElement(domain, "os")
    _text(element, "type", "hvm", arch="x86_64", machine=shape.machine)
    if shape.firmware == "secboot":
        _text(element, "loader", OVMF_SECURE, readonly="yes", type="pflash", secure="yes")
    elif shape.firmware == "ovmf":
        _text(element, "loader", OVMF_CODE, readonly="yes", type="pflash")
    if shape.firmware != "bios":
        _text(element, "nvram", shape.nvram_path, template=OVMF_VARS)
    kernels = IMAGES if shape.kvm else WITNESS  # AppArmor lets no guest read the other place
    # UEFI and machines of old QEMUs start no other; a guest that the other wakes from S3 reboots.
    packed = shape.packed or shape.firmware != "bios" or shape.machine not in ("q35", "pc")
    _text(element, "kernel", f"{kernels}/{'vmlinuz' if packed else 'vmlinux'}")
    _text(element, "initrd", f"{kernels}/initrd")
    _text(element, "cmdline", kernel_command_line(shape))


def _devices_seen_inside(shape: Shape) -> list[str]:
    """The guest's device nodes.  It writes to all of them, so which sdX is which does not matter."""
    virtio = sum(disk.bus == "virtio" for disk in shape.disks)
    others = len(shape.disks) - virtio
    return [f"/dev/vd{_letter(i)}" for i in range(virtio)] + [f"/dev/sd{_letter(i)}" for i in range(others)]


def _letter(index: int) -> str:
    return chr(ord("a") + index)


class _Targets:
    """Hands out libvirt's names of disks: vda, sda, sdb, hda, ..."""

    def __init__(self) -> None:
        self.used = dict.fromkeys(TARGETS.values(), 0)

    def next(self, bus: Bus) -> str:
        prefix = TARGETS[bus]
        self.used[prefix] += 1
        return prefix + _letter(self.used[prefix] - 1)


def _devices(devices: ET.Element, shape: Shape) -> None:
    targets = _Targets()
    for index, disk in enumerate(shape.disks):
        _disk(devices, shape, disk, shape.disk_path(index), targets)
    if shape.cdrom:
        _cdrom(devices, shape, targets)
    if any(disk.bus == "scsi" for disk in shape.disks):
        driver = [("driver", {"iothread": "1"})] if shape.iothreads else []
        _tree(devices, "controller", *driver, type="scsi", index="0", model="virtio-scsi")
    for index in range(shape.nics):
        _nic(devices, shape, index)
    _serial(devices, shape)
    _extras(devices, shape)


def _disk(devices: ET.Element, shape: Shape, disk: Disk, path: str, targets: _Targets) -> None:
    driver = {"name": "qemu", "type": disk.format}
    if shape.iothreads and disk.bus == "virtio":
        driver["iothread"] = "1"
    target = {"dev": targets.next(disk.bus), "bus": disk.bus}
    element = _tree(devices, "disk", ("driver", driver), ("source", {"file": path}), type="file", device="disk")
    if disk.backed:
        backing = _tree(element, "backingStore", ("format", {"type": "qcow2"}), type="file")
        ET.SubElement(backing, "source", file=f"{path}.base")
        ET.SubElement(backing, "backingStore")
    ET.SubElement(element, "target", target)


def _cdrom(devices: ET.Element, shape: Shape, targets: _Targets) -> None:
    bus: Bus = "ide" if shape.machine.startswith("pc") and "q35" not in shape.machine else "sata"
    _tree(
        devices,
        "disk",
        ("driver", {"name": "qemu", "type": "raw"}),
        ("source", {"file": shape.cdrom}),
        ("target", {"dev": targets.next(bus), "bus": bus}),
        "readonly",
        type="file",
        device="cdrom",
    )


def _nic(devices: ET.Element, shape: Shape, index: int) -> None:
    driver: list[tuple[str, dict[str, str]]] = [("driver", {"name": "vhost"})] if shape.kvm else []
    _tree(
        devices,
        "interface",
        ("mac", {"address": f"52:54:00:57:{shape.number:02x}:{index:02x}"}),
        ("source", {"network": "default"}),
        ("model", {"type": "virtio"}),
        *driver,
        type="network",
    )


def _serial(devices: ET.Element, shape: Shape) -> None:
    element = _tree(devices, "serial", type="file" if shape.serial == "file" else "pty")
    if shape.serial == "file":
        ET.SubElement(element, "source", path=shape.serial_path)
    ET.SubElement(element, "target", port="0")
    if shape.serial == "log":
        ET.SubElement(element, "log", file=shape.serial_path, append="on")


def _extras(devices: ET.Element, shape: Shape) -> None:
    if shape.agent:
        target = {"type": "virtio", "name": "org.qemu.guest_agent.0"}
        _tree(devices, "channel", ("target", target), type="unix")
    if shape.vnc:
        _tree(devices, "graphics", type="vnc", port="-1", autoport="yes", listen="127.0.0.1")
        _tree(devices, "video", ("model", {"type": "vga"}))
    if shape.usb_tablet:
        _tree(devices, "input", type="tablet", bus="usb")
    if shape.rng:
        _text(_tree(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")
    if shape.watchdog:
        _tree(devices, "watchdog", model="i6300esb", action="reset")
    if shape.panics:
        _tree(devices, "panic", model="isa")
    _tree(devices, "memballoon", model="virtio" if shape.balloon else "none")
