"""libvirt's status file of a running domain: what a swap reads of it, and how it rewrites it.

The format is ``qemuDomainObjPrivateXMLFormat`` and ``virDomainObjFormat`` (libvirt, src/qemu/qemu_domain.c and
src/conf/domain_conf.c).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from lxml import etree

from virtcpr.domain import refreshed
from virtcpr.domain.xml import parse
from virtcpr.errors import ParseError

# Elements that are there while libvirt is busy (libvirt drops or empties them afterwards).
BUSY = {
    "job": "a job",
    "backups/domainbackup": "a backup",
    "fakereboot": "a reboot",
    "lockstate": "a lock manager's lease",
}


@dataclass(frozen=True)
class StatusFile:
    pid: int
    state: str
    reason: str
    lib_dir: str
    monitor: str
    busy: tuple[str, ...]
    taints: frozenset[str]
    name: str = ""
    uuid: str = ""
    id: str = ""
    vcpus: frozenset[int] = frozenset()  # those that have a thread
    iothreads: frozenset[str] = frozenset()  # as QEMU calls them


def read(text: str) -> StatusFile:
    """Read a status file.  Raises ParseError if it isn't one, or lacks what a swap depends on."""
    root = parse(text)
    if root.tag != "domstatus":
        raise ParseError(f"libvirt's status file starts with <{root.tag}>, not <domstatus>")
    monitor = root.find("monitor")
    lib_dir = root.find("libDir")
    if monitor is None or lib_dir is None or monitor.get("type") != "unix" or root.find("qemuCaps") is None:
        raise ParseError("libvirt's status file has no monitor on a unix socket, no libDir or no qemuCaps")
    busy = [text for path, text in BUSY.items() if _in_force(root.find(path))]
    block_jobs = root.find("blockjobs")
    if block_jobs is not None and (block_jobs.get("active") == "yes" or len(block_jobs)):
        busy.append("a block job")
    return StatusFile(
        pid=int(root.get("pid", "0")),
        state=root.get("state", ""),
        reason=root.get("reason", ""),
        lib_dir=lib_dir.get("path", ""),
        monitor=monitor.get("path", ""),
        busy=tuple(busy),
        taints=frozenset(node.get("flag", "") for node in root.findall("taint")),
        name=root.findtext("domain/name") or "",
        uuid=root.findtext("domain/uuid") or "",
        id=str(root.xpath("string(domain/@id)")),
        vcpus=frozenset(int(node.get("id", "-1")) for node in root.findall("vcpus/vcpu")),
        iothreads=_iothreads(root),
    )


@dataclass(frozen=True)
class DisplayPassword:
    """The password of a display.  ``expires`` as QEMU's expire_password takes it."""

    word: str = field(repr=False)
    expires: str = "never"


def display_password(text: str, kind: str, default: str | None) -> DisplayPassword | None:
    """The password of the display of this kind (vnc or spice) in libvirt's record, or in qemu.conf (``default``); None
    if neither has one.

    The record has the password that QEMU got; the password in qemu.conf may have changed since.  An empty password
    locks the display (qemuDomainChangeGraphicsPasswords, src/qemu/qemu_hotplug.c).
    """
    node = parse(text).find(f"domain/devices/graphics[@type='{kind}']")
    word = default if node is None else node.get("passwd", default)
    if word is None:
        return None
    until = None if node is None else node.get("passwdValidTo")
    if word == "":
        return DisplayPassword(word, "now")
    return DisplayPassword(word, "never" if until is None else str(_seconds(until)))


def _seconds(text: str) -> int:
    """The time is in UTC, without a time zone (virDomainGraphicsAuthDefParseXML).  Raises ParseError."""
    try:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ParseError(f"'{text}' isn't a time") from error


def _iothreads(root: etree._Element) -> frozenset[str]:
    """libvirt names iothreads by id, and omits the ids if they are 1, 2, … (virDomainDefFormat)."""
    ids = [node.get("id", "") for node in root.findall("domain/iothreadids/iothread")]
    if not ids:
        ids = [str(number + 1) for number in range(int(root.findtext("domain/iothreads") or 0))]
    return frozenset(f"iothread{number}" for number in ids)


def _in_force(node: etree._Element | None) -> bool:
    """Whether the element means that something is going on; libvirt also writes empty elements."""
    if node is None:
        return False
    return node.get("type") not in ("none",) or node.get("async") not in (None, "none")


def changes(first: str, second: str) -> tuple[str, ...]:
    """Paths of the differences between two readings of a domain's status file; no values, as they can be secret.

    Taints don't count: a query through the daemon adds one.  Nor does what libvirt writes by itself as the guest goes
    on, and why it runs: a guest that was suspended and resumed is the same again.  Nor does the number of the next
    block node, which an attachment that QEMU refused has used up.
    """
    return tuple(dict.fromkeys(_changes(_lasting(first), _lasting(second), "")))


def _lasting(text: str) -> etree._Element:
    root = parse(text)
    domain = root.find("domain")
    if domain is not None:
        refreshed.drop(domain)
    for node in root.findall("nodename"):
        root.remove(node)
    if root.get("state") == "running" and "reason" in root.attrib:
        del root.attrib["reason"]
    return root


def _changes(first: etree._Element, second: etree._Element, path: str) -> Iterator[str]:
    contents = [(sorted(node.items()), (node.text or "").strip()) for node in (first, second)]
    if contents[0] != contents[1]:
        yield path or str(first.tag)
    old, new = ([node for node in side.iterchildren(etree.Element) if node.tag != "taint"] for side in (first, second))
    if [node.tag for node in old] != [node.tag for node in new]:
        yield path or str(first.tag)
        return
    for before, after in zip(old, new, strict=True):
        yield from _changes(before, after, f"{path}/{before.tag!s}".lstrip("/"))


def with_domain(text: str, edit: Callable[[str], str]) -> str:
    """The status file with its domain's XML edited.  Raises ParseError."""
    root = parse(text)
    domain = root.find("domain")
    if domain is None:
        raise ParseError("libvirt's status file has no <domain>")
    edited = parse(edit(etree.tostring(domain, encoding="unicode", with_tail=False)))
    edited.tail = domain.tail
    root.replace(domain, edited)
    return etree.tostring(root.getroottree(), encoding="unicode") + "\n"


@dataclass(frozen=True)
class Successor:
    """The new values in a status file after a swap."""

    pid: int
    vcpus: Mapping[int, int]  # vCPU → thread
    ptys: Mapping[str, str] = field(default_factory=dict)  # alias of a device → its pseudo-terminal
    emulator: str | None = None
    taints: frozenset[str] | None = None  # the taints to keep; None keeps all


def rewrite(text: str, new: Successor) -> str:
    """The status file of the same domain with another QEMU process.  Everything else stays the same."""
    root = parse(text)
    root.set("pid", str(new.pid))
    for vcpu in root.findall("vcpus/vcpu"):
        thread = new.vcpus.get(int(vcpu.get("id", "-1")))
        if thread is not None:
            vcpu.set("pid", str(thread))
    for taint in root.findall("taint"):
        if new.taints is not None and taint.get("flag") not in new.taints:
            root.remove(taint)
    for device in root.findall("domain/devices/*"):
        _move_pty(device, new.ptys)
    emulator = root.find("domain/devices/emulator")
    if emulator is not None and new.emulator is not None:
        emulator.text = new.emulator
    return etree.tostring(root.getroottree(), encoding="unicode") + "\n"


def _move_pty(device: etree._Element, ptys: Mapping[str, str]) -> None:
    alias, source = device.find("alias"), device.find("source")
    path = ptys.get("" if alias is None else alias.get("name", ""))
    if path is None or source is None or device.get("type") != "pty":
        return
    source.set("path", path)
    if device.get("tty") is not None:
        device.set("tty", path)
