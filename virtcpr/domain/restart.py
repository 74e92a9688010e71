"""The XML with which libvirt starts a saved guest again, waiting for its state; and its removal afterwards.

Only QEMU's own arguments in the XML make libvirt start a domain that waits for a state from elsewhere.  If they stayed
in the live XML, every later save, migration and snapshot would contain them, and its next start would fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePath

from lxml import etree

from virtcpr.domain.xml import QEMU_NS, parse
from virtcpr.errors import ParseError

WAITING = ("-incoming", "defer")
COMMANDLINE, ARG = f"{{{QEMU_NS}}}commandline", f"{{{QEMU_NS}}}arg"
TAINT = "custom-argv"  # libvirt's taint for a domain with QEMU's own arguments


def waiting(xml: str, emulator: str | None = None) -> str:
    """A live XML for a start that waits for the guest's state; ``emulator`` replaces the domain's, if given.

    Raises ParseError.
    """
    root = parse(xml)
    if root.tag != "domain":
        raise ParseError(f"this is not a domain's XML but <{root.tag}>")
    _strip(root)
    arguments = root.find(COMMANDLINE)
    if arguments is None:
        arguments = etree.SubElement(root, COMMANDLINE, nsmap={"qemu": QEMU_NS})
    for word in WAITING:
        etree.SubElement(arguments, ARG, value=word)
    named = root.find("devices/emulator")
    if emulator is not None and named is not None:
        named.text = emulator
    return etree.tostring(root, encoding="unicode") + "\n"


def stripped(status: str, taints: Collection[str], *, sleeps: bool = False) -> str:
    """A status file without what ``waiting`` added; and without libvirt's taint for it, if it isn't in ``taints``.
    Raises ParseError.

    If the guest ``sleeps`` (suspended to RAM), libvirt resumed it and records it as running.  The state is corrected:
    otherwise the daemon would take the guest for paused, even after it wakes up (qemuProcessUpdateState).
    """
    root = parse(status)
    domain = root.find("domain")
    if domain is None:
        raise ParseError("libvirt's status file has no domain in it")
    _strip(domain)
    if sleeps and root.get("state") == "running":
        root.set("state", "pmsuspended")
        root.set("reason", "unknown")
    for taint in root.findall("taint"):
        if taint.get("flag") == TAINT and TAINT not in taints and domain.find(COMMANDLINE) is None:
            root.remove(taint)
    return etree.tostring(root.getroottree(), encoding="unicode") + "\n"


def waits(xml: str) -> bool:
    """Whether a live XML or a status file has what ``waiting`` adds.  Raises ParseError."""
    return any(True for _ in _added(parse(xml)))


@dataclass(frozen=True)
class Disk:
    """Storage that a domain may write to.  ``path`` is a file or a block device of the host; None: it is neither."""

    label: str  # as people know it
    path: str | None


def disks(xml: str) -> tuple[Disk, ...]:
    """All of it: disks, their external data, NVDIMMs, SCSI devices of the host, and its firmware's variables.

    Raises ParseError.
    """
    root = parse(xml)
    listed: list[Disk] = []
    for node in root.iterfind("devices/disk"):
        if node.find("readonly") is None:
            listed += _storage(_get(node, "target", "dev"), node)
            listed += (disk for store in node.iterfind("source/dataStore") for disk in _storage("", store))
    for memory in root.iterfind("devices/memory"):
        path = memory.findtext("source/path")
        if memory.get("model") in ("nvdimm", "virtio-pmem") and memory.find("target/readonly") is None and path:
            listed.append(Disk(path.strip(), path.strip()))
    for device in root.iterfind("devices/hostdev"):
        if (device.get("type") or "").startswith("scsi"):
            listed.append(Disk(f"{_get(device, 'alias', 'name')} ({device.get('type')})".strip(), None))
    nvram = root.find("os/nvram")
    if nvram is not None:
        path = (nvram.text or "").strip()
        listed += [Disk(path, path)] if path else _storage("nvram", nvram)
    return tuple(dict.fromkeys(listed))


def _storage(name: str, node: etree._Element) -> Iterator[Disk]:
    """A disk, its data store, or <nvram>; of an empty drive there is nothing."""
    source = node.find("source")
    if source is None:
        return
    path = source.get("file") or source.get("dev")
    if path and PurePath(path).is_absolute():
        yield Disk(path, path)
    elif place := " ".join(filter(None, map(source.get, ("protocol", "pool", "volume", "name", "dir", "type")))):
        yield Disk(f"{name} ({place})".strip(), None)
    elif node.get("type") not in ("file", "block"):
        yield Disk(f"{name} ({node.get('type')})".strip(), None)


def _get(node: etree._Element, path: str, attribute: str) -> str:
    part = node.find(path)
    return "" if part is None else part.get(attribute, "")


def _strip(domain: etree._Element) -> None:
    for pair in list(_added(domain)):
        parent = pair[0].getparent()
        assert parent is not None
        for node in pair:
            parent.remove(node)
        if len(parent) == 0:
            above = parent.getparent()
            assert above is not None
            above.remove(parent)


def _added(root: etree._Element) -> Iterator[tuple[etree._Element, etree._Element]]:
    """The pairs of arguments that ``waiting`` added: no other running domain can have them."""
    for first, second in pairwise(list(root.iter(ARG))):
        if (first.get("value"), second.get("value")) == WAITING and first.getparent() is second.getparent():
            yield first, second
