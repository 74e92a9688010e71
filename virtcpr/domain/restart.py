"""The XML with which libvirt starts a saved guest again, waiting for its state; and its removal afterwards.

Only QEMU's own arguments in the XML make libvirt start a domain that waits for a state from elsewhere.  If they stayed
in the live XML, every later save, migration and snapshot would contain them, and its next start would fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
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


def images(xml: str) -> tuple[str, ...]:
    """The files and block devices that a domain may write to: disks, and firmware variables (NVRAM)."""
    root = parse(xml)
    writable = (disk for disk in root.findall("devices/disk") if disk.find("readonly") is None)
    sources = (disk.find("source") for disk in writable)
    paths = [source.get("file") or source.get("dev") for source in sources if source is not None]
    nvram = root.find("os/nvram")
    if nvram is not None:
        source = nvram.find("source")
        paths.append(source.get("file") if source is not None else (nvram.text or "").strip())
    return tuple(dict.fromkeys(path for path in paths if path and PurePath(path).is_absolute()))


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
