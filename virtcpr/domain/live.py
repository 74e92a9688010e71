"""The live XML of a domain, read: devices, resources and settings that a swap must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from lxml import etree

from virtcpr.domain.argv import Option
from virtcpr.errors import ParseError

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"
MACHINE_OPTIONS = ("-machine", "--machine", "-M", "--M")
# Bytes of a unit that libvirt's XML knows (virScaleInteger, src/util/virutil.c).
UNITS = {
    "b": 1,
    "bytes": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGT", 1)},
    **{name: 1024**power for power, letter in enumerate("KMGT", 1) for name in (letter, f"{letter}iB")},
    "k": 1024,
}


def parse(text: str) -> etree._Element:
    """Parse libvirt's own XML; entities and external references are never resolved.  Raises ParseError."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=False)
    try:
        return etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ParseError(f"XML that can't be parsed: {error}") from error


@dataclass(frozen=True)
class Interface:
    alias: str
    kind: str
    target: str | None
    mac: str | None
    link_down: bool
    backend: str | None


@dataclass(frozen=True)
class LiveDomain:
    """A typed view of ``virsh dumpxml``."""

    root: etree._Element

    @classmethod
    def of(cls, text: str) -> LiveDomain:
        root = parse(text)
        if root.tag != "domain":
            raise ParseError(f"this is no domain's XML but <{root.tag}>")
        return cls(root)

    def all(self, path: str) -> Iterator[etree._Element]:
        return iter(self.root.findall(path))

    def matches(self, xpath: str) -> bool:
        return bool(self.root.xpath(xpath))

    @property
    def machine(self) -> str:
        return _attribute(self.root, "os/type", "machine") or ""

    @property
    def name(self) -> str:
        return self.root.findtext("name") or ""

    @property
    def uuid(self) -> str:
        return self.root.findtext("uuid") or ""

    @property
    def emulator(self) -> str:
        return (self.root.findtext("devices/emulator") or "").strip()

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
        """The most RAM that the guest can have (virDomainDef's memory is in KiB where libvirt wrote it)."""
        node = self.root.find("memory")
        return 0 if node is None else int(node.text or 0) * UNITS.get(node.get("unit", "KiB"), 1024) // 1024

    def hugepage_kib(self) -> int | None:
        """The size of the hugepages that back the RAM; 0: the host's default size, None: none do."""
        if not self.matches("memoryBacking/hugepages"):
            return None
        page = self.root.find("memoryBacking/hugepages/page")
        return 0 if page is None else int(page.get("size", "0")) * UNITS.get(page.get("unit", "KiB"), 1024) // 1024

    def private_ram(self) -> tuple[str, ...]:
        """Which RAM the next boot will not share as cpr-transfer needs it; nothing where all of it is.

        What libvirt makes of the XML is in qemuBuildMemoryBackendProps (src/qemu/qemu_command.c): shared RAM that isn't
        a memfd is a named file, but for hugepages, whose file is nameless in a directory.
        """
        access = _attribute(self.root, "memoryBacking/access", "mode")
        source = _attribute(self.root, "memoryBacking/source", "type")
        cells = self.root.findall("cpu/numa/cell")
        private = [f"NUMA cell {c.get('id', '?')}" for c in cells if (c.get("memAccess") or access) != "shared"]
        if not cells and access != "shared":
            private.append("main memory")
        if self.hugepage_kib() is not None and source != "memfd":
            private.append("hugepages that aren't a memfd")
        memory = self.root.findall("devices/memory[@model='dimm']")
        private += [f"dimm {n}" for n, dimm in enumerate(memory) if (dimm.get("access") or access) != "shared"]
        return tuple(private)

    def aux_ram_share(self) -> bool:
        """Whether QEMU's arguments in the XML switch aux-ram-share on; the last word counts."""
        words = [arg.get("value", "") for arg in self.root.findall(f"{{{QEMU_NS}}}commandline/{{{QEMU_NS}}}arg")]
        values = [Option("machine", v).properties() for k, v in pairwise(words) if k in MACHINE_OPTIONS]
        said = [str(value["aux-ram-share"]) for value in values if "aux-ram-share" in value]
        return bool(said) and said[-1] in ("on", "yes", "true", "y")

    def vnc_sockets(self) -> frozenset[str]:
        """Paths of the unix sockets that the VNC display listens on."""
        listens = [*self.all("devices/graphics[@type='vnc']/listen[@type='socket']"), *self.all("devices/graphics")]
        return frozenset(path for node in listens if (path := node.get("socket")) is not None)

    def balloon_period(self) -> tuple[str, int] | None:
        """(alias, seconds) of the balloon whose statistics libvirt asks QEMU to collect."""
        for node in self.all("devices/memballoon"):
            period = _attribute(node, "stats", "period")
            if period and int(period) > 0:
                return _attribute(node, "alias", "name") or "", int(period)
        return None


def _attribute(node: etree._Element, child: str, name: str) -> str | None:
    found = node.find(child)
    return None if found is None else found.get(name)


def normalised(text: str) -> tuple[str, ...]:
    """The live XML without what a swap must change: pseudo-terminals and the emulator's path."""
    root = parse(text)
    for node in root.iter("*"):
        if node.tag in ("serial", "console", "parallel", "channel") and node.get("type") == "pty":
            _drop(node, "tty")
            source = node.find("source")
            if source is not None:
                _drop(source, "path")
        if node.tag == "emulator":
            node.text = None
    return tuple(etree.tostring(root, encoding="unicode").splitlines())


def _drop(node: etree._Element, attribute: str) -> None:
    if attribute in node.attrib:
        del node.attrib[attribute]


def differences(before: str, after: str) -> tuple[str, ...]:
    """Lines of the live XML that changed in a swap and should not have, as ``- old`` and ``+ new``."""
    old, new = normalised(before), normalised(after)
    gone = [f"- {line.strip()}" for line in old if line not in new]
    come = [f"+ {line.strip()}" for line in new if line not in old]
    return (*gone, *come)
