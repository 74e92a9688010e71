"""Disk images as libvirt's status file records them: the block nodes that QEMU made of them, and their options.

QEMU doesn't report all options of a node.  libvirt builds them again whenever it needs them
(qemuBlockStorageSourceGetBackendProps and qemuBlockStorageSourceGetFormatProps, src/qemu/qemu_block.c).  So does this
module, for images that were added since the guest started: no command line has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from lxml import etree

from virtcpr.domain.xml import parse

LOCAL = frozenset({"file", "block", "volume"})


@dataclass(frozen=True)
class Recorded:
    """A block node of a disk.

    ``options`` are for its -blockdev, without what QEMU reports itself: file name of a local image, cache, read-only,
    backing image.  ``path`` is the file name in the record, if it has one.  ``problem``: why it can't be built again.
    """

    disk: str  # as libvirt calls it
    options: Mapping[str, object] = field(default_factory=dict)
    local: bool = False  # QEMU reports the file's name
    path: str | None = None
    top: bool = False  # only devices, filters and other images are on top of it: read-only is given
    backing: str | None = None
    problem: str | None = None


def recorded(status_xml: str) -> dict[str, Recorded]:
    """Every block node of every disk, by name.  Raises ParseError if it isn't XML."""
    return dict(node for disk in parse(status_xml).iterfind("domain/devices/disk") for node in _disk(disk))


def _disk(disk: etree._Element) -> Iterator[tuple[str, Recorded]]:
    name = _get(disk, "target", "dev")
    driver = disk.find("driver")
    settings = {} if driver is None else {str(key): str(value) for key, value in driver.attrib.items()}
    yield from _chain(name, disk, settings.get("type", "raw"), settings)
    for node in disk.iterfind("privateData/nodenames/nodename"):
        if options := _filter(node):
            yield node.get("name", ""), Recorded(name, {"node-name": node.get("name", ""), **options})


def _filter(node: etree._Element) -> Mapping[str, object]:
    """Options of a filter on top of the whole chain; ``file`` is missing, as the chain can change."""
    match node.get("type"):
        case "copyOnRead":
            return {"driver": "copy-on-read", "discard": "unmap"}
        case "throttle-filter":
            return {"driver": "throttle", "throttle-group": f"throttle-{node.get('group')}"}
        case _:
            return {}


def _chain(
    name: str, element: etree._Element, kind: str, settings: Mapping[str, str]
) -> Iterator[tuple[str, Recorded]]:
    """The nodes of an image and its backing images; ``element`` is <disk>, <backingStore> or <dataStore>."""
    source = element.find("source")
    if source is None:
        return
    backing = element.find("backingStore")
    under = None if backing is None else backing.find("source")
    cache = element.findtext("driver/metadata_cache/max_size") or element.findtext("format/metadata_cache/max_size")
    settings = {**settings, **({"metadata_cache": cache} if cache else {})}
    data = source.find("dataStore")
    nodes = _names(source)
    top = nodes.get("format") or nodes.get("slice-storage") or nodes.get("storage")
    if storage := nodes.get("storage"):
        yield storage, _storage(name, element, source, settings, storage, alone=storage == top)
    if layer := nodes.get("slice-storage"):
        yield layer, _slice(name, source, layer, storage or "", alone=layer == top)
    if node := nodes.get("format"):
        below = nodes.get("slice-storage") or storage or ""
        yield node, _format(name, source, kind, settings, node, below, _top(under))
    if data is not None:
        yield from _chain(name, data, _get(data, "format", "type") or "raw", settings)
    if backing is not None:
        yield from _chain(name, backing, _get(backing, "format", "type"), _of_backing(settings))


def _of_backing(settings: Mapping[str, str]) -> Mapping[str, str]:
    """The settings of <driver> for the whole chain (qemuDomainPrepareDiskSourceData, src/qemu/qemu_domain.c)."""
    return {key: settings[key] for key in ("io", "discard") if key in settings}


def _names(source: etree._Element) -> dict[str, str]:
    nodes = source.iterfind("privateData/nodenames/nodename")
    return {node.get("type", ""): node.get("name", "") for node in nodes}


def _top(source: etree._Element | None) -> str | None:
    nodes = {} if source is None else _names(source)
    return nodes.get("format") or nodes.get("slice-storage") or nodes.get("storage")


def _storage(
    name: str, element: etree._Element, source: etree._Element, settings: Mapping[str, str], node: str, *, alone: bool
) -> Recorded:
    kind = element.get("type", "")
    aio = {"aio": settings["io"]} if "io" in settings else {}
    below = _effective(settings) if alone else {"auto-read-only": True, "discard": "unmap"}
    if kind in LOCAL:
        path = source.get("file") or source.get("dev")
        return Recorded(name, {**aio, "node-name": node, **below}, local=True, path=path, top=alone)
    problem = None
    if kind != "network" or source.get("protocol") != "nbd":
        what = source.get("protocol") if kind == "network" else kind
        problem = f"its image is of a kind that can't be opened again yet ('{what}')"
    elif source.get("tls") == "yes":
        problem = "its image is on an NBD server with TLS, which can't be opened again yet"
    elif source.find("host") is None:
        problem = "its NBD server isn't in libvirt's record"
    nbd = {} if problem else _nbd(source)
    return Recorded(name, {**nbd, "node-name": node, **below}, top=alone, problem=problem)


def _effective(settings: Mapping[str, str]) -> dict[str, object]:
    return {"discard": settings["discard"]} if "discard" in settings else {}


def _nbd(source: etree._Element) -> dict[str, object]:
    host = source.find("host")
    assert host is not None, "checked before"
    server: dict[str, object] = {"type": "inet", "host": host.get("name", ""), "port": host.get("port", "10809")}
    if host.get("transport") == "unix":
        server = {"type": "unix", "path": host.get("socket", "")}
    options: dict[str, object] = {"driver": "nbd", "server": server}
    if source.get("name"):
        options["export"] = source.get("name")
    if delay := _get(source, "reconnect", "delay"):
        options["reconnect-delay"] = int(delay)
    return options


def _slice(name: str, source: etree._Element, node: str, storage: str, *, alone: bool) -> Recorded:
    part = source.find("slices/slice[@type='storage']")
    if part is None:
        return Recorded(name, problem="its slice isn't in libvirt's record")
    options = {
        "driver": "raw",
        "file": storage,
        "offset": int(part.get("offset", "0")),
        "size": int(part.get("size", "0")),
        "node-name": node,
    }
    return Recorded(name, options if alone else {**options, "auto-read-only": True}, top=alone)


def _format(
    name: str,
    source: etree._Element,
    kind: str,
    settings: Mapping[str, str],
    node: str,
    below: str,
    backing: str | None,
) -> Recorded:
    options: dict[str, object] = {"node-name": node, **_effective(settings), "driver": "raw" if kind == "iso" else kind}
    problem = None
    encryption = source.find("encryption")
    if encryption is not None:
        secret = _get(source, "privateData/objects/secret[@type='encryption']", "alias")
        if not secret or encryption.get("format") != "luks":
            problem = "its key isn't in libvirt's record"
        elif kind == "raw":
            options |= {"driver": "luks", "key-secret": secret}
        else:
            options["encrypt"] = {"format": "luks", "key-secret": secret}
    if settings.get("discard_no_unref") == "on":
        options["discard-no-unref"] = True
    if "metadata_cache" in settings:
        options["cache-size"] = int(settings["metadata_cache"])  # bytes, as libvirt writes it
    if data := _top(source.find("dataStore/source")):
        options["data-file"] = data
    options["file"] = below
    return Recorded(name, options, top=True, backing=backing, problem=problem)


def _get(element: etree._Element, path: str, attribute: str) -> str:
    child = element.find(path)
    return "" if child is None else child.get(attribute, "")
