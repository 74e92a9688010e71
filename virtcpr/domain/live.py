"""The live XML of a domain, read: devices, resources and settings that a swap must know."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lxml import etree

from virtcpr.errors import ParseError

QEMU_NS = "http://libvirt.org/schemas/domain/qemu/1.0"


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

    def has(self, path: str) -> bool:
        return self.root.find(path) is not None

    @property
    def emulator(self) -> str:
        return (self.root.findtext("devices/emulator") or "").strip()

    def interfaces(self) -> Iterator[Interface]:
        for node in self.all("devices/interface"):
            yield Interface(
                alias=_attribute(node, "alias", "name") or "",
                kind=node.get("type", ""),
                target=_attribute(node, "target", "dev"),
                link_down=_attribute(node, "link", "state") == "down",
                backend=_attribute(node, "backend", "type"),
            )

    def vnc_sockets(self) -> frozenset[str]:
        """Paths of the unix sockets that the VNC display listens on."""
        listens = [*self.all("devices/graphics[@type='vnc']/listen[@type='socket']"), *self.all("devices/graphics")]
        return frozenset(path for node in listens if (path := node.get("socket")) is not None)

    def macs(self) -> dict[str, str]:
        """Alias of an interface → its MAC address."""
        found = (
            (_attribute(n, "alias", "name"), _attribute(n, "mac", "address")) for n in self.all("devices/interface")
        )
        return {alias: mac for alias, mac in found if alias and mac}

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
