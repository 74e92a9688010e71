"""Character devices, and the descriptors that libvirt gave QEMU for them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lxml import etree

from virtcpr.domain.argv import CommandLine, Option
from virtcpr.domain.facts import FdsetFd, QemuFacts
from virtcpr.domain.reconcile import devices
from virtcpr.domain.reconcile.change import Change
from virtcpr.domain.xml import parse

Properties = dict[str, str]


def change(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Change:
    """query-chardev doesn't report how a character device was made; libvirt's record does, by the alias of its device
    (qemuBuildChardevStr, src/qemu/qemu_command.c)."""
    labels = {chardev.label for chardev in qemu.chardevs}
    plugged = {label for label, attached in devices.used(line, qemu, "chardev").items() if attached}
    kept = {str(o.properties().get("id")) for o in line.named("chardev")} & labels - plugged
    new = sorted(labels - kept)
    sources = _sources(status_xml) if new else {}
    made = {label: _made(label, sources.get(label.removeprefix("char")), qemu.fdsets) for label in new}
    replaced: dict[Option, Option | None] = {
        option: None for option in line.named("chardev") if option.properties().get("id") not in kept
    }
    sets = {(str(member.fdset), member.opaque or "") for member in qemu.fdsets}
    for option in line.named("add-fd"):
        given = option.properties()
        if (str(given.get("set")), str(given.get("opaque", ""))) in sets:
            sets.discard((str(given.get("set")), str(given.get("opaque", ""))))
        else:
            replaced[option] = None
    added = [_option("add-fd", {"set": number, "fd": "0", "opaque": opaque}) for number, opaque in sorted(sets)]
    added += [_option("chardev", properties) for properties in made.values() if properties is not None]
    refused = tuple(
        f"character device {label} was added since the guest started, and can't be rebuilt"
        for label, properties in made.items()
        if properties is None
    )
    return Change(replaced, tuple(added), refused)


def _option(name: str, properties: Mapping[str, str]) -> Option:
    return Option(name, "").with_properties({key: value for key, value in properties.items() if value or key == "fd"})


def _sources(status_xml: str) -> dict[str, etree._Element]:
    """The elements of libvirt's record that describe a character device, by the alias of their device."""
    sources = {}
    for device in parse(status_xml).iterfind("domain/devices/*"):
        alias = device.find("alias")
        backend = device.find("backend") if device.tag == "rng" else device
        if alias is not None and backend is not None:
            sources[alias.get("name", "")] = backend
    return sources


def _made(label: str, source: etree._Element | None, fdsets: tuple[FdsetFd, ...]) -> Properties | None:
    """The properties of ``-chardev``; None if they can't be rebuilt."""
    if source is None:
        return None
    alias = label.removeprefix("char")
    kind = _kind(source, alias, fdsets)
    if kind is None:
        return None
    return kind | {"id": label} | dict(_log(source, alias, fdsets))


def _kind(node: etree._Element, alias: str, fdsets: tuple[FdsetFd, ...]) -> Properties | None:
    kind = node.get("type") or node.get("model", "")
    sources = {source.get("mode", ""): source for source in node.iterfind("source")}
    match kind:
        case "null" | "pty":
            return {"": kind}
        case "file":
            return {"": "file", **_file(next(iter(sources.values()), None), f"{alias}-source", fdsets)}
        case "unix" if "connect" not in sources:
            return {"": "socket", "fd": "0", "server": "on", "wait": "off"}
        case "tcp" if "bind" in sources and sources["bind"].get("tls") != "yes":
            telnet = node.find("protocol[@type='telnet']") is not None
            return {"": "socket", "fd": "0", **({"telnet": "on"} if telnet else {}), "server": "on", "wait": "off"}
        case "udp":
            return {"": "udp", **_udp(sources)}
        case _:
            return None


def _udp(sources: Mapping[str, etree._Element]) -> Properties:
    bound, peer = sources.get("bind"), sources.get("connect")
    properties: Properties = {}
    if peer is not None:
        properties |= {"host": peer.get("host", ""), "port": peer.get("service", "")}
    if bound is not None:
        properties |= {"localaddr": bound.get("host", ""), "localport": bound.get("service", "")}
    return properties


def _file(source: etree._Element | None, opaque: str, fdsets: tuple[FdsetFd, ...]) -> Properties:
    """virtlogd's pipe, if it has one; otherwise the file itself."""
    path = _set(opaque, fdsets)
    if path is not None:
        return {"path": path, "append": "on"}
    assert source is not None, "libvirt's schema"
    return {"path": source.get("path", ""), "append": source.get("append", "")}


def _log(node: etree._Element, alias: str, fdsets: tuple[FdsetFd, ...]) -> Iterator[tuple[str, str]]:
    log = node.find("log")
    if log is None:
        return
    path = _set(f"{alias}-log", fdsets)
    yield "logfile", path or log.get("file") or ""
    yield "logappend", "on" if path else log.get("append") or ""


def _set(opaque: str, fdsets: tuple[FdsetFd, ...]) -> str | None:
    return next((f"/dev/fdset/{member.fdset}" for member in fdsets if member.opaque == opaque), None)
