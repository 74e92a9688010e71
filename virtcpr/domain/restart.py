"""The XML by which libvirt starts a saved guest again, waiting for its state, and what of it must not stay.

libvirt has no way to start a domain that waits for a state of somebody else's but QEMU's own arguments in the XML.
Left in the live XML they would go into every later save, migration and snapshot, and spoil its next start.
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
TAINT = "custom-argv"  # what libvirt notes of a domain with QEMU's own arguments


def waiting(xml: str, emulator: str | None = None) -> str:
    """The domain of a live XML, to be started where it waits for its state; with another ``emulator``, if one is named.

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
    """A status file without what ``waiting`` added; libvirt's note on such arguments goes where the domain didn't have
    it before.  Raises ParseError.

    A guest that ``sleeps`` (suspended to RAM) was resumed by libvirt into its sleep, and libvirt thinks that it runs.
    It is told, or its daemon would take it for paused, and still do so when it is awake (qemuProcessUpdateState).
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
    """Whether a document has what ``waiting`` adds: live XML, or a status file.  Raises ParseError."""
    return any(True for _ in _added(parse(xml)))


def images(xml: str) -> tuple[str, ...]:
    """The files and block devices that a domain may write to: disks, and its firmware's variables."""
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
    """Pairs of arguments that are ours: nobody else can have them in a domain that runs."""
    for first, second in pairwise(list(root.iter(ARG))):
        if (first.get("value"), second.get("value")) == WAITING and first.getparent() is second.getparent():
            yield first, second
