"""What modes transfer and live were run with for real, by tests in tests/lab.  Anything else is ``not-yet-run``.

A list of what was seen to fail would let through what nobody has tried: a disk on Ceph, a new property of a device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import chain

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.live import LiveDomain
from virtcpr.model import Mode

Tried = Mapping[str, str]  # the test → names, separated by spaces

KINDS_Q35 = "test_kinds.py::test_every_kind_of_a_q35_machine"
KINDS_PC = "test_kinds.py::test_every_kind_of_a_pc_machine"
IMAGES = "test_images.py::test_attached_disks"
HOTPLUG = "test_hotplug.py::test_what_was_attached_goes_along_and_can_be_taken_out"
MACHINES = "test_machines.py::test_another_machine_moves_there_and_back"
UPGRADE = "test_upgrade.py::test_all_move_in_one_blackout_and_virsh_works_on_all_of_them"
DISPLAYS = "test_displays.py::test_passwords_and_tls_are_as_they_were"
VIDEO = "test_kinds.py::test_every_kind_of_a_display"
TPM = "test_tpm.py::test_it_moves_there_and_back"
VIRTIOFS = "test_desktop.py::test_it_moves_there_and_back"
SPICE = "test_ports.py::test_it_moves_there_and_back"
LINKS = "test_displays.py::test_links_actions_and_words_about_a_domain"
IDLE = "test_kinds.py::test_what_is_there_but_not_in_use"

# Options of the command line.
OPTIONS: Tried = {
    UPGRADE: "name S machine accel cpu m overcommit smp uuid display no-user-config nodefaults mon rtc no-shutdown "
    "boot msg sandbox kernel initrd append add-fd incoming",
    KINDS_Q35: "audiodev blockdev chardev device fw_cfg global k netdev numa object smbios vnc watchdog-action",
    MACHINES: "bios serial",
    IDLE: "fsdev",
    SPICE: "spice",
    TPM: "tpmdev",
    LINKS: "action",
}
# Drivers of -device, those that were attached included.
DEVICES: Tried = {
    KINDS_Q35: "AC97 ES1370 VGA ahci e1000 e1000e hda-duplex i6300esb i82559er ich9-intel-hda ich9-usb-ehci1 "
    "ich9-usb-uhci1 ich9-usb-uhci2 ich9-usb-uhci3 ide-hd igb intel-hda intel-iommu isa-parallel isa-serial lsi megasas "
    "mptsas1068 ne2k_pci nec-usb-xhci pci-bridge pci-serial pcie-pci-bridge pcie-root-port pcnet pvpanic pvscsi "
    "pxb-pcie qemu-xhci qxl rtl8139 scsi-hd usb-hub usb-kbd usb-mouse usb-storage usb-tablet virtconsole "
    "virtio-balloon-pci virtio-blk-pci virtio-gpu-pci virtio-keyboard-pci virtio-mouse-pci virtio-net-pci "
    "virtio-net-pci-non-transitional virtio-net-pci-transitional virtio-rng-pci virtio-scsi-pci virtio-serial-pci "
    "virtio-tablet-pci vmcoreinfo vmxnet3 x3130-upstream xio3130-downstream",
    KINDS_PC: "cirrus-vga hda-micro hda-output ib700 ide-cd pc-dimm piix3-usb-uhci pvpanic-pci pxb sb16 usb-ehci "
    "virtio-mem-pci vmgenid",
    HOTPLUG: "virtserialport",
    IMAGES: "scsi-cd isa-fdc floppy",
    IDLE: "ivshmem-plain virtio-9p-pci",
    VIDEO: "bochs-display qxl-vga virtio-vga vmware-svga virtio-iommu virtio-blk-pci-transitional "
    "virtio-blk-pci-non-transitional am53c974",
    SPICE: "usb-redir",
    TPM: "tpm-crb tpm-tis",
    VIRTIOFS: "vhost-user-fs-pci",
}
# Kinds of -object.
OBJECTS: Tried = {
    KINDS_Q35: "iothread memory-backend-memfd rng-builtin rng-random secret",
    IMAGES: "throttle-group",
    DISPLAYS: "tls-creds-x509",
    IDLE: "memory-backend-file",
}
# Drivers of block nodes: formats, filters, and what the data is on.
BLOCKS: Tried = {
    KINDS_Q35: "file host_device qcow qcow2 raw vdi vmdk vpc vvfat",
    IMAGES: "copy-on-read luks nbd throttle",
}
CHARDEVS: Tried = {
    KINDS_Q35: "file null pty socket",
    HOTPLUG: "udp",
    SPICE: "spicevmc spiceport",
}
AUDIO: Tried = {KINDS_Q35: "none", SPICE: "spice"}
# Of -display: others are QEMU's own windows, or a helper's that shows the guest (libvirt 12.5 and its qemu-vnc).
SCREENS: Tried = {UPGRADE: "none"}
TARGETS: Tried = {UPGRADE: "x86_64", MACHINES: "aarch64 riscv64"}
# Of a disk in the XML: the driver of its protocol is one of BLOCKS.
PROTOCOLS: Tried = {IMAGES: "nbd"}
FORMATS: Tried = {KINDS_Q35: "fat qcow qcow2 raw vdi vmdk vpc", IMAGES: "luks iso"}
ALL = (OPTIONS, DEVICES, OBJECTS, BLOCKS, CHARDEVS, AUDIO, SCREENS, TARGETS, PROTOCOLS, FORMATS)

# The tests that mode live was run with, too (VIRTCPR_MODE=live).
BY_LIVE = frozenset(
    {UPGRADE, KINDS_Q35, KINDS_PC, VIDEO, IMAGES, HOTPLUG, MACHINES, DISPLAYS, SPICE, LINKS, TPM, VIRTIOFS}
)

# A finding of its own names these, in words that help more.
JUDGED_DEVICES = re.compile(
    r"vfio-.*|usb-host|vhost-.*|ccid-card-.*|usb-ccid|virtio-crypto.*|virtio-sound.*|usb-audio|virtio-input-host.*"
    r"|virtio-(vga|gpu)-gl.*|amd-iommu|ivshmem-doorbell|.*-cpu"
)
PLAIN_RAM = "memory-backend-ram"  # of a guest that isn't prepared; nobody has moved it shared
JUDGED_OBJECTS = re.compile(
    rf"{PLAIN_RAM}|monitor-.*|.*-guest|cryptodev-.*|input-linux|pr-manager-helper|memory-backend-epc|dbus-.*"
)
JUDGED_OBJECTS_LIVE = re.compile(rf"{JUDGED_OBJECTS.pattern}|memory-backend-file")  # by ram-file
JUDGED_AUDIO = frozenset({"dbus"})
JUDGED_BLOCKS = frozenset({"nvme", "virtio-blk-vhost-user", "virtio-blk-vhost-vdpa"})
# Properties that have "fd" in their names, and name no descriptor.
NO_DESCRIPTOR = frozenset({"fdtype", "fdtypeA", "fdtypeB", "fd-bootchk"})


def names(tried: Tried, mode: Mode = Mode.TRANSFER) -> frozenset[str]:
    """What was run in this mode, transfer or live."""
    groups = (group for test, group in tried.items() if mode is Mode.TRANSFER or test in BY_LIVE)
    return frozenset(chain.from_iterable(group.split() for group in groups))


def untried(line: CommandLine, qemu: QemuFacts, mode: Mode = Mode.TRANSFER) -> tuple[str, ...]:
    """What of a running guest was never moved in this mode, in words."""
    return tuple(dict.fromkeys((*_of_line(line, mode), *_of_qemu(qemu, mode))))


def _of_line(line: CommandLine, mode: Mode) -> Iterator[str]:
    for option in line.options:
        if option.name not in names(OPTIONS, mode):
            yield f"-{option.name}"
        match option.name:
            case "device":
                yield from _device(kind(option), mode)
            case "chardev" if kind(option) not in names(CHARDEVS, mode):
                yield f"a character device of kind {kind(option)}"
            case "display" if kind(option) not in names(SCREENS, mode):
                yield f"a display by {kind(option)}"
            case "audiodev" if kind(option) not in names(AUDIO, mode) | JUDGED_AUDIO:
                yield f"sound through {kind(option)}"
            case "blockdev" if str(option.properties().get("filename")).startswith("/dev/fdset/"):
                yield "an image that libvirt opened (fdgroup)"
            case "blockdev" if "tls-creds" in option.properties():
                yield f"{kind(option)} with TLS"


def _of_qemu(qemu: QemuFacts, mode: Mode) -> Iterator[str]:
    for device in qemu.devices.values():
        if device.attached:
            yield from _device(device.driver, mode)
    judged = JUDGED_OBJECTS if mode is Mode.TRANSFER else JUDGED_OBJECTS_LIVE
    for sort in qemu.objects.values():
        if sort not in names(OBJECTS, mode) and not judged.fullmatch(sort):
            yield f"an object of kind {sort}"
    if any(memdev.kind == PLAIN_RAM and memdev.share for memdev in qemu.memdevs):
        yield f"an object of kind {PLAIN_RAM}"
    for node in qemu.nodes:
        if node.driver not in names(BLOCKS, mode) | JUDGED_BLOCKS:
            yield f"disks by {node.driver}"
    if qemu.target not in names(TARGETS, mode):
        yield f"guests of architecture {qemu.target}"


def _device(driver: str, mode: Mode) -> Iterator[str]:
    if driver not in names(DEVICES, mode) and not JUDGED_DEVICES.fullmatch(driver):
        yield f"device {driver}"


def untried_in_document(live: LiveDomain) -> tuple[str, ...]:
    """What of the disks in a domain's XML was never moved by mode transfer, in words."""
    sources = live.all("devices/disk[@type='network']/source")
    protocols = [protocol for source in sources if (protocol := source.get("protocol", "")) not in names(PROTOCOLS)]
    drivers = live.all("devices/disk/driver[@type]")
    formats = [format_ for driver in drivers if (format_ := driver.get("type", "")) not in names(FORMATS)]
    return tuple(dict.fromkeys(f"disks by {name}" for name in (*protocols, *formats)))


def kind(option: Option) -> str:
    """The driver, back end or type of an option: its leading word, or what JSON names so."""
    properties = option.properties()
    return str(
        next((properties[key] for key in ("driver", "backend", "type", "qom-type", "") if key in properties), "")
    )


def descriptors(option: Option) -> tuple[str, ...]:
    """The properties of an option that name a descriptor, or may: new QEMU's descriptors have other numbers."""
    return tuple(dict.fromkeys(_descriptors(option.properties())))


def _descriptors(value: object, name: str = "") -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _descriptors(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _descriptors(inner, name)
    elif _names_descriptor(name.rpartition(".")[2], str(value)):
        yield name


def _names_descriptor(name: str, value: str) -> bool:
    if "fd" in name:
        return name not in NO_DESCRIPTOR
    return (name == "type" and value == "fd") or re.match(r"(/proc/self|/dev)/fd/", value) is not None
