"""The command line of a guest's twin: the same machine with null back ends.

A rehearsal runs two twins, in the guest's old and new QEMU.  Neither must open an image, a tap or a socket of the
guest, use memory, or identify the guest: guests with the same machine share one twin and one rehearsal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import BlockNode
from virtcpr.domain.shared_ram import AUX, FILE, MEMFD, NAMED_BY_PATH, RAM

# The guest's identity, its monitors, and what makes QEMU wait or load something; irrelevant for its state.
LEFT_OUT = frozenset(
    [
        "S", "s", "gdb", "incoming", "loadvm", "snapshot", "daemonize", "pidfile", "runas", "run-with", "chroot",
        "name", "uuid", "add-fd", "mon", "monitor", "qmp", "qmp-pretty", "vnc", "display", "spice", "nographic",
        "D", "d", "trace", "msg", "k", "tpmdev", "mem-path", "mem-prealloc", "overcommit", "initrd", "append", "smbios",
    ]
)  # fmt: skip
# Back ends that no device with state needs once the images are replaced.
UNUSED_OBJECTS = ("secret", "tls-creds", "authz", "throttle-group", "pr-manager", "thread-context", "tls-cipher",
                  "input-", "filter-")  # fmt: skip
# Opening these again takes them from the guest, or fails; some have no substitute.
HOSTS_OBJECTS = ("dbus-vmstate", "can-host", "vhost-user-backend")
HOSTS_DEVICES = (
    "vfio-ap",
    "vfio-ccw",
    "vfio-platform",
    "usb-host",
    "vhost-",
    "virtio-input-host",
    "ccid-card-emulated",
    "u2f-passthru",
)
# A process of the host's, or its hardware, is their back end: the twin does without.
SERVED_DEVICES = ("tpm-", "vhost-user-fs-", "vhost-vsock-", "vfio-pci")
# Properties of a device that identify the guest and don't matter for its state.
INDIVIDUAL = ("serial", "wwn", "bootindex", "logfile")
# Options that may name a resource of the host which can't be replaced here.
UNKNOWN = frozenset(["drive", "hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "sd", "mtdblock", "pflash", "virtfs",
                     "usbdevice", "net", "nic"])  # fmt: skip
# The machine, and how it runs.  Any other option is refused: /proc/PID/cmdline is in QEMU's own memory, and a
# compromised QEMU could have written -plugin or -readconfig there; the twin isn't confined like the guest's QEMU.
SHAPE = frozenset(
    [
        "machine", "M", "accel", "enable-kvm", "cpu", "m", "smp", "numa", "global", "compat", "sandbox", "rtc",
        "icount", "boot", "bios", "L", "kernel", "dtb", "acpitable", "vga", "usb", "action", "watchdog-action",
        "no-user-config", "nodefaults", "no-shutdown", "no-reboot", "no-acpi", "no-hpet",
    ]
)  # fmt: skip
OBJECTS = ("iothread", "rng-", "can-bus", "cryptodev-backend-builtin", "acpi-generic-initiator", "acpi-generic-port")
WRITES = "dumpdtb"  # of a machine: the file to which QEMU writes its device tree
MEMORY = "memory-backend-"


class NoTwin(Exception):
    """A guest can't have a twin; the text says why."""


def twin(line: CommandLine, nodes: Iterable[BlockNode]) -> CommandLine:
    """The twin of the guest with this command line and these images.  The caller adds a monitor.

    Raises NoTwin.
    """
    images = {node.name: node for node in nodes}
    used = set(_used_nodes(line))
    options: list[Option] = []
    for number, option in enumerate(line.options):
        options += _stand_in(option, number, used, images)
    if missing := used - {str(o.properties().get("node-name")) for o in options if o.name == "blockdev"}:
        raise NoTwin(f"the image {min(missing)} isn't on its command line")
    return CommandLine(line.emulator, (*options, Option("display", "none"), Option("overcommit", "mem-lock=off")))


def in_files(line: CommandLine, prefix: str) -> CommandLine:
    """The same twin with its memory in sparse files with this path prefix; mode reboot leaves files in place.

    It would read a memfd to its end, and each page of a memfd that is read takes memory.
    """
    options = (
        _in_file(option, f"{prefix}{number}") if _kind(option) == MEMFD else option
        for number, option in enumerate(line.options)
    )
    return CommandLine(line.emulator, tuple(options))


def copied_from(line: CommandLine) -> CommandLine:
    """The same twin with memory of its own, whose pages can be read without taking memory."""
    options = (
        option.without("share").with_kind(RAM, {}) if _kind(option) == MEMFD else option for option in line.options
    )
    return CommandLine(line.emulator, tuple(options))


def copied_to(line: CommandLine) -> CommandLine:
    """The same twin with shared memory of the same names as that of ``copied_from``."""
    options = (
        option.with_properties({NAMED_BY_PATH: False, **option.properties()}) if _kind(option) == MEMFD else option
        for option in line.options
    )
    return CommandLine(line.emulator, (*options, AUX))


def _used_nodes(line: CommandLine) -> Iterator[str]:
    """The block nodes that the machine and its devices use directly: only these get a blank node."""
    for option in line.named("device", "machine"):
        for key, value in option.properties().items():
            if key in ("drive", "pflash0", "pflash1"):
                yield str(value)


def _stand_in(option: Option, number: int, used: set[str], images: Mapping[str, BlockNode]) -> Iterator[Option]:
    """The twin's replacement for an option of the guest."""
    properties = option.properties()
    match option.name:
        case name if name in LEFT_OUT:
            return
        case name if name in UNKNOWN:
            raise NoTwin(f"its command line has -{name}")
        case "object":
            yield from _object(option)
        case "blockdev":
            if properties.get("node-name") in used:
                yield _blank(option, images)
        case "netdev":
            yield _netdev(properties, number)
        case "serial" | "parallel":
            yield Option(option.name, "none" if option.value == "none" else "null")
        case "fw_cfg":
            yield Option("fw_cfg", f"name={properties.get('name', properties.get(''))},string=-")
        case "fsdev":
            yield Option("fsdev", f"synth,id={properties.get('id')}")
        case "chardev":
            if properties.get("id") is not None:
                yield Option("chardev", f"null,id={properties['id']}")
        case "audiodev":
            yield _option("audiodev", {"driver": "none", "id": properties.get("id")})
        case "device" if _driver(option).startswith(SERVED_DEVICES):
            return
        case "device":
            yield _device(option, number)
        case "machine" | "M" if WRITES in properties:
            raise NoTwin(f"its machine has {WRITES}")
        case name if name in SHAPE:
            yield option
        case name:
            raise NoTwin(f"its command line has -{name}, which virtcpr doesn't know")


def _option(name: str, properties: Mapping[str, object]) -> Option:
    return Option(name, json.dumps(properties, separators=(",", ":")))


def _netdev(properties: Mapping[str, object], number: int) -> Option:
    """An unconnected network back end.  QEMU's user-mode network has a state: it stays, but restricted."""
    if properties.get("type", properties.get("")) == "user":
        return _option("netdev", {"type": "user", "id": properties.get("id"), "restrict": True})
    return _option("netdev", {"type": "hubport", "id": properties.get("id"), "hubid": number})


def _kind(option: Option) -> str:
    """The QOM type of an object; empty for any other option."""
    properties = option.properties() if option.name == "object" else {}
    return str(properties.get("qom-type", properties.get("", "")))


def _in_file(option: Option, path: str) -> Option:
    return option.with_kind(FILE, {"mem-path": path})


def _object(option: Option) -> Iterator[Option]:
    """Memory of the same size, which is never touched; objects for images and displays are left out."""
    properties = option.properties()
    kind = _kind(option)
    if kind.startswith(UNUSED_OBJECTS):
        return
    if kind.startswith(HOSTS_OBJECTS):
        raise NoTwin(f"it has an object that belongs to the host ({kind})")
    if kind == f"{MEMORY}epc" or kind.startswith(OBJECTS):
        yield option
        return
    if not kind.startswith(MEMORY):
        raise NoTwin(f"it has an object that virtcpr doesn't know ({kind})")
    kept = ("id", "size", "x-use-canonical-path-for-ramblock-id")
    size = {key: properties[key] for key in kept if key in properties}
    if option.value is not None and option.value.startswith("{"):
        yield _option("object", {"qom-type": MEMFD, "share": True, **size})
    else:
        words = ",".join(f"{key}={value}" for key, value in size.items())
        yield Option("object", f"{MEMFD},share=on,{words}")


def _blank(option: Option, images: Mapping[str, BlockNode]) -> Option:
    """A node of the same name and size that reads as zeroes."""
    properties = option.properties()
    name = str(properties["node-name"])
    if name not in images or images[name].size is None:
        raise NoTwin(f"the size of its image {name} isn't known")
    return _option(
        "blockdev",
        {
            "driver": "null-co",
            "node-name": name,
            "size": images[name].size,
            "read-zeroes": True,
            "read-only": properties.get("read-only") in (True, "on"),
        },
    )


def _driver(option: Option) -> str:
    properties = option.properties()
    return str(properties.get("driver", properties.get("")))


def _device(option: Option, number: int) -> Option:
    """The same device, without what distinguishes its guest from others with the same machine."""
    properties = option.properties()
    driver = _driver(option)
    if driver.startswith(HOSTS_DEVICES):
        raise NoTwin(f"it has a host device ({driver})")
    mac = {"mac": f"52:54:00:00:{number >> 8 & 0xFF:02x}:{number & 0xFF:02x}"} if "mac" in properties else {}
    return option.without(*INDIVIDUAL).with_properties(mac)
