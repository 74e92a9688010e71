"""The live XML of a domain, parsed: devices, resources and settings that a swap needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

from virtcpr.domain import refreshed
from virtcpr.domain.argv import Option
from virtcpr.domain.edit.arguments import pairs, properties_of, same, value_of
from virtcpr.domain.notice import NOTICE_NS, Notice, notice
from virtcpr.domain.xml import amount, parse
from virtcpr.errors import ParseError

# Separate from prepare's record: `virsh metadata --set` replaces everything in a namespace.
WISH_NS = "urn:virtcpr:auto:1"
TAGS_NS = "urn:virtcpr:tags:1"
# Namespaces of metadata, as they begin.  Pacemaker leaves no mark.
MANAGERS = {
    "http://openstack.org/xmlns/libvirt/nova/": "OpenStack (nova)",
    "http://ovirt.org/vm/": "oVirt",
    "http://kubevirt.io": "KubeVirt",
    "http://opennebula.org/xmlns/libvirt/": "OpenNebula",
}
# RAM that libvirt backs with hugepages: the whole RAM, or one device's.
HUGEPAGES = "memoryBacking/hugepages | devices/memory/source/pagesize"
AGENT = "org.qemu.guest_agent.0"
# Memory devices that are shared, or have no RAM of their own, whatever the XML says.
SHARED_BY_NATURE = frozenset({"virtio-pmem", "virtio-mem"})


@dataclass(frozen=True)
class Interface:
    alias: str
    kind: str
    target: str | None
    mac: str | None
    link_down: bool
    backend: str | None


@dataclass(frozen=True)
class HostDevice:
    """A PCI device of the host: the element that gives it, that element's children, and how its driver is set."""

    element: str
    parts: tuple[str, ...]
    driver: Mapping[str, str]


@dataclass(frozen=True)
class LiveDomain:
    """A typed view of ``virsh dumpxml``."""

    root: etree._Element

    @classmethod
    def of(cls, text: str) -> LiveDomain:
        root = parse(text)
        if root.tag != "domain":
            raise ParseError(f"this is not a domain's XML but <{root.tag}>")
        return cls(root)

    @property
    def kind(self) -> str:
        """The type of its virtualisation, as ``kvm``."""
        return self.root.get("type", "")

    def all(self, path: str) -> Iterator[etree._Element]:
        return iter(self.root.findall(path))

    def matches(self, xpath: str) -> bool:
        return bool(self.root.xpath(xpath))

    @property
    def machine(self) -> str:
        return _attribute(self.root, "os/type", "machine") or ""

    def of_riscv(self) -> bool:
        """Its machine type ``virt`` has no versions, as that of ARM has."""
        return self.matches("os/type[starts-with(@arch, 'riscv')]")

    @property
    def name(self) -> str:
        return self.root.findtext("name") or ""

    @property
    def uuid(self) -> str:
        return self.root.findtext("uuid") or ""

    @property
    def emulator(self) -> str:
        return (self.root.findtext("devices/emulator") or "").strip()

    @property
    def wish(self) -> str | None:
        """The administrator's word for `virtcpr auto` in the metadata; None if there is none."""
        text = self.root.findtext(f"metadata/{{{WISH_NS}}}auto")
        return None if text is None else text.strip()

    @property
    def tags(self) -> frozenset[str]:
        """The administrator's words for groups of domains, in the metadata."""
        return frozenset((self.root.findtext(f"metadata/{{{TAGS_NS}}}tags") or "").split())

    @property
    def notice(self) -> Notice | None:
        """What the guest wants to be told, by the metadata; None: nothing.  Raises ParseError."""
        node = self.root.find(f"metadata/{{{NOTICE_NS}}}notice")
        return None if node is None else notice(node.get("command"), node.get("timeout"), node.get("veto"))

    @property
    def manager(self) -> str | None:
        """Whose domain it is, by its metadata, if a manager of many hosts has made it; CloudStack has none."""
        if self.matches("sysinfo/system/entry[@name='product'][starts-with(., 'CloudStack')]"):
            return "CloudStack"
        spaces = [str(node.tag).removeprefix("{") for node in self.all("metadata/*")]
        return next((name for uri, name in MANAGERS.items() if any(space.startswith(uri) for space in spaces)), None)

    def interfaces(self) -> Iterator[Interface]:
        for node in self.all("devices/interface"):
            yield Interface(
                alias=_attribute(node, "alias", "name") or "",
                kind=node.get("type", ""),
                target=_attribute(node, "target", "dev"),
                mac=_attribute(node, "mac", "address"),
                link_down=_attribute(node, "link", "state") == "down",
                backend=_attribute(node, "backend", "type"),
            )

    def memory_kib(self) -> int:
        """The guest's maximum RAM.  Raises ParseError."""
        node = self.root.find("memory")
        return 0 if node is None else amount(node.text, node.get("unit")) // 1024

    def hugepage_kib(self) -> int | None:
        """The size of the hugepages behind the RAM; 0: the host's default, None: no hugepages.  Raises ParseError."""
        if not self.matches("memoryBacking/hugepages"):
            return None
        page = self.root.find("memoryBacking/hugepages/page")
        return 0 if page is None else amount(page.get("size"), page.get("unit")) // 1024

    def private_ram(self) -> tuple[str, ...]:
        """The RAM that the next boot will not share as cpr-transfer needs it; empty if all RAM is shared.

        libvirt builds the backends in qemuBuildMemoryBackendProps (src/qemu/qemu_command.c): shared RAM that isn't a
        memfd is a named file, but hugepages are a nameless file in a directory.  A device's access overrides its NUMA
        cell's access, which overrides the domain's.
        """
        access = _attribute(self.root, "memoryBacking/access", "mode")
        cells = {c.get("id", "?"): c.get("memAccess") or access for c in self.root.findall("cpu/numa/cell")}
        private = [f"NUMA cell {name}" for name, mode in cells.items() if mode != "shared"]
        if not cells and access != "shared":
            private.append("main memory")
        if self.matches(HUGEPAGES) and _attribute(self.root, "memoryBacking/source", "type") != "memfd":
            private.append("hugepages that aren't a memfd")
        for number, device in enumerate(self.root.findall("devices/memory")):
            model = device.get("model", "")
            if model in SHARED_BY_NATURE:
                continue
            node = device.findtext("target/node") or ""
            if model == "sgx-epc" or (device.get("access") or cells.get(node.strip(), access)) != "shared":
                private.append(f"{model} {number}")
        return tuple(private)

    def aux_ram_share(self) -> bool:
        """Whether QEMU's arguments in the XML switch aux-ram-share on; the last value counts."""
        given = (value_of(pair.option, "aux-ram-share") for pair in pairs(self.root) if pair.option.name == "machine")
        values = [value for value in given if value is not None]
        return bool(values) and same(values[-1], "on")

    def handed_over(self) -> bool:
        """Whether a guest that is started from this XML has RAM that new QEMU can take over."""
        return self.aux_ram_share() and not self.private_ram()

    def cpu_arguments(self) -> tuple[Option, ...]:
        """The CPU models among QEMU's arguments in the XML; the last one counts."""
        return tuple(pair.option for pair in pairs(self.root) if pair.option.name == "cpu")[-1:]

    def ram_backend(self) -> str | None:
        """The backend of all RAM, if QEMU's arguments in the XML replace libvirt's own."""
        given = (value_of(pair.option, "memory-backend") for pair in pairs(self.root) if pair.option.name == "machine")
        return next(reversed([value for value in given if value is not None]), None)

    def boot_roms(self) -> frozenset[str]:
        """Models of the interfaces that have a boot ROM; the XML and QEMU's arguments in it can disable it."""
        defaults = {pair.option.value for pair in pairs(self.root) if pair.option.name == "global"}
        models = set()
        for interface in self.all("devices/interface"):
            if interface.get("type") == "hostdev":
                continue
            model = _attribute(interface, "model", "type") or "default"
            device = "virtio-net-pci-base" if model.startswith("virtio") else model
            given = _attribute(interface, "rom", "file") is not None or f"{device}.romfile=" not in defaults
            if given and _attribute(interface, "rom", "enabled") != "no":
                models.add(model)
        return frozenset(models)

    def host_devices(self) -> Iterator[HostDevice]:
        """The PCI devices of the host that it has."""
        for path in ("devices/hostdev[@type='pci']", "devices/interface[@type='hostdev']"):
            for device in self.all(path):
                parts = tuple(str(part.tag) for part in device.iterchildren("*"))
                settings = {str(k): str(v) for driver in device.iterfind("driver") for k, v in driver.attrib.items()}
                yield HostDevice(str(device.tag), parts, settings)

    def lost_boot_roms(self) -> bool:
        """Whether a BIOS guest boots from the network, and QEMU's arguments in the XML disable boot ROMs."""
        boots = self.matches("os/boot[@dev='network'] | devices/interface/boot")
        uefi = self.matches("os[@firmware='efi'] | os/loader")  # it has its own network driver
        taken = (pair.option for pair in pairs(self.root) if pair.option.name == "global")
        return boots and not uefi and any((option.value or "").endswith(".romfile=") for option in taken)

    def ram_files(self) -> frozenset[tuple[str, str]]:
        """(path, offset) of the shared files that QEMU's arguments in the XML use as RAM."""
        objects = [properties_of(pair.option) for pair in pairs(self.root) if pair.option.name == "object"]
        return frozenset(
            (str(properties["mem-path"]), str(properties.get("offset", "0")))
            for properties in objects
            if "mem-path" in properties
            and (properties.get("share") is True or same(str(properties.get("share")), "on"))
        )

    def vnc_sockets(self) -> frozenset[str]:
        """Paths of the unix sockets that the VNC display listens on."""
        listens = [*self.all("devices/graphics[@type='vnc']/listen[@type='socket']"), *self.all("devices/graphics")]
        return frozenset(path for node in listens if (path := node.get("socket")) is not None)

    def logs(self) -> frozenset[str]:
        """Files that character devices write to, or log to."""
        sources = (node.get("path") for node in self.root.iterfind("devices/*[@type='file']/source"))
        logs = (node.get("file") for node in self.root.iterfind("devices/*/log"))
        return frozenset(path for path in (*sources, *logs) if path)

    def has_agent(self) -> bool:
        """Whether the guest has opened the channel of its agent."""
        return self.matches(f"devices/channel/target[@name='{AGENT}' and @state='connected']")

    def agents(self) -> frozenset[str]:
        """Aliases of the guest agent's channels."""
        channels = (node for node in self.all("devices/channel") if node.find(f"target[@name='{AGENT}']") is not None)
        return frozenset(_attribute(node, "alias", "name") or "" for node in channels)

    def watchdog_action(self) -> str | None:
        """libvirt's word for the action of the watchdog; all watchdogs share one action."""
        node = self.root.find("devices/watchdog")
        return None if node is None else node.get("action")

    def balloon_period(self) -> tuple[str, int] | None:
        """(alias, seconds) of the balloon whose statistics libvirt asks QEMU to collect."""
        for node in self.all("devices/memballoon"):
            period = _attribute(node, "stats", "period")
            if period and int(period) > 0:
                return _attribute(node, "alias", "name") or "", int(period)
        return None


def _attribute(node: etree._Element, child: str, name: str) -> str | None:
    element = node.find(child)
    return None if element is None else element.get(name)


def normalised(root: etree._Element) -> tuple[str, ...]:
    """The live XML without what a swap or a restart of the daemon changes anyway: pseudo-terminals, the emulator's
    path, the alias of a USB controller of model none; and without what libvirt refreshes by itself.

    libvirt keeps the index of an ejected medium until it reconnects, and omits the driver, which is always qemu.
    Changes ``root``.
    """
    refreshed.drop(root)
    for node in list(root.iter("*")):
        if node.tag in ("serial", "console", "parallel", "channel") and node.get("type") == "pty":
            _drop(node, "tty")
            source = node.find("source")
            if source is not None:
                _drop(source, "path")
        if node.tag == "disk" and not _has_medium(node):
            for part in (*node.findall("source"), *node.findall("driver[@name='qemu']")):
                node.remove(part)
        if node.tag == "emulator":
            node.text = None
        if node.tag == "controller" and (node.get("type"), node.get("model")) == ("usb", "none"):
            del node[:]  # it has no alias after the daemon restarts, as QEMU has no such device
            node.text = None
    return tuple(line for line in map(str.strip, etree.tostring(root, encoding="unicode").splitlines()) if line)


def _has_medium(disk: etree._Element) -> bool:
    source = disk.find("source")
    return source is not None and (len(source) > 0 or set(source.attrib) - {"index"} != set())


def _drop(node: etree._Element, attribute: str) -> None:
    if attribute in node.attrib:
        del node.attrib[attribute]


def differences(before: str, after: str, *, asleep: bool = False) -> tuple[str, ...]:
    """Lines of the live XML that changed in a swap and should not have, as ``- old`` and ``+ new``.

    A channel that the guest opened meanwhile is no difference, one that is no longer open is.  ``asleep``: the guest
    doesn't run, so QEMU doesn't report its open channels yet (virtio_serial_post_load_timer_cb,
    hw/char/virtio-serial-bus.c: the timer is on the guest's clock).
    """
    roots = parse(before), parse(after)
    was_open, is_open = map(refreshed.open_channels, roots)
    old, new = map(normalised, roots)
    gone = [f"- {line}" for line in old if line not in new]
    come = [f"+ {line}" for line in new if line not in old]
    closed = () if asleep else [f"- the open channel {name}" for name in sorted(was_open - is_open)]
    return (*gone, *come, *closed)
