"""Disk images: the current graph of block nodes, and the medium of each drive.

A node of the command line stays if QEMU still has a node of that name, driver and file: its other options don't change.
The nodes below it may be others now, and it may have become writable or read-only.  New nodes are built from libvirt's
record; removed nodes are left out, and so are their files.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

from virtcpr.domain.argv import CommandLine, Option, Properties
from virtcpr.domain.disks import Recorded, recorded
from virtcpr.domain.facts import BlockNode, Drive, QemuFacts
from virtcpr.domain.reconcile.change import Change

# Drivers whose file name QEMU reports as it was given.
LOCAL = frozenset({"file", "host_device", "host_cdrom"})
# Formats that are on top of another image (qapi/block-core.json, BlockdevOptionsGenericCOWFormat).
LAYERED = frozenset({"qcow", "qcow2", "qed", "vmdk"})
# Short forms of -drive: the medium can be changed, or changes kept in a temporary file.
SHORT = frozenset({"hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "sd"})
# Properties that name another node.
CHILDREN = ("file", "backing", "data-file")


@dataclass
class _Graph:
    """The nodes for the new command line: in their old position, or added in order at its end."""

    kept: dict[Option, Option | None] = field(default_factory=dict)
    moved: dict[str, Option] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def change(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Change:
    """The -blockdev options to remove, change and add; refusals name the disk."""
    graph = _Graph()
    nodes = {node.name: node for node in qemu.nodes}
    old = {str(option.properties().get("node-name")): option for option in line.named("blockdev")}
    stay = {name: new for name, option in old.items() if name in nodes and (new := _corrected(option, nodes[name]))}
    record = recorded(status_xml) if nodes.keys() - stay.keys() else {}
    for name in nodes.keys() - stay.keys():
        _build(graph, nodes[name], record.get(name))
    defined: set[str] = set()
    for name, option in old.items():
        new = stay.get(name)
        if new is None:
            graph.kept[option] = None
        elif _children(new) <= defined:
            defined.add(name)
            graph.kept |= {option: new} if new != option else {}
        else:  # a node below it is defined later
            graph.kept[option] = None
            graph.moved[name] = new
    added = tuple(_in_order(graph.moved))
    there = defined | graph.moved.keys()
    missing = sorted(f"{name} on {child}" for name, new in {**stay, **graph.moved}.items()
                     for child in _children(new) - there)  # fmt: skip
    graph.refused += [f"block node {what}, which QEMU doesn't name" for what in missing]
    graph.refused += _stale_drives(line, qemu)
    return Change(graph.kept, added, tuple(sorted(graph.refused)))


def _stale_drives(line: CommandLine, qemu: QemuFacts) -> Iterator[str]:
    """``-drive`` options (and short forms) that an administrator added: if the medium was changed or ejected, as far as
    QEMU reports it, or if the changes are in a temporary file of old QEMU."""
    throwaway = any(line.named("snapshot"))
    for option in line.options:
        short, properties = option.name in SHORT, option.properties() if option.name == "drive" else {}
        if not short and not properties:
            continue
        file = option.value or "" if short else str(properties.get("file", ""))
        if throwaway or properties.get("snapshot") in (True, "on"):
            yield f"QEMU was started with the drive {file}, whose changes are in a temporary file (snapshot)"
        elif not file and any(key == "driver" or key.startswith("file.") for key in properties):
            yield f"QEMU was started with the drive {option.value}, and doesn't say what the drive holds now"
        elif qemu.legacy is not None and file.startswith("/") and file not in qemu.legacy:
            yield f"QEMU was started with the drive {file}, which it no longer has"


def with_drives(line: CommandLine, qemu: QemuFacts) -> CommandLine:
    """The same line with the current node of each device, or none if its medium is ejected.

    The ``drive`` property doesn't count: on the command line it is from the start, and QEMU clears it when it creates a
    USB disk (usb_msd_storage_realize, hw/usb/dev-storage-classic.c).
    """
    drives = {drive.device: drive for drive in qemu.drives if drive.device}
    nodes = {node.name for node in qemu.nodes}
    return replace(line, options=tuple(_with_drive(option, drives, nodes) for option in line.options))


def _with_drive(option: Option, drives: Mapping[str, Drive], nodes: Container[str]) -> Option:
    properties = option.properties() if option.name == "device" else {}
    drive = drives.get(str(properties.get("id")))
    if drive is None or properties.get("drive") == drive.node or not (drive.node is None or drive.node in nodes):
        return option
    changed = option.without("drive") if drive.node is None else option.with_properties({"drive": drive.node})
    # QEMU picks the type of a floppy drive by its medium (pick_drive_type, hw/block/fdc.c): the type must not change.
    return changed.with_properties({"drive-type": drive.floppy}) if drive.floppy else changed


def _corrected(option: Option, node: BlockNode) -> Option | None:
    """The option for the node's current state, or None if the node has another image now."""
    properties = option.properties()
    if properties.get("driver") != node.driver or (node.driver in LOCAL and properties.get("filename") != node.file):
        return None
    changes: dict[str, object] = {}
    if "read-only" in properties and (properties["read-only"] in (True, "on")) != node.read_only:
        changes["read-only"] = node.read_only
    if "read-only" not in properties and "auto-read-only" not in properties and node.read_only:
        changes["read-only"] = True
    below = node.below
    if below is not None and _is_filter(node):
        changes |= (
            {"file": below.data} if isinstance(properties.get("file"), str) and properties["file"] != below.data else {}
        )
    elif below is not None and properties.get("backing") != below.backing and not (below.backing or "").startswith("#"):
        changes |= {"backing": below.backing} if "backing" in properties or below.backing else {}
    return _with(option, changes) if changes else option


def _is_filter(node: BlockNode) -> bool:
    """QEMU reports the node below a filter as both its data and its backing (bdrv_filter_or_cow_bs)."""
    return node.below is not None and node.below.data is not None and node.below.data == node.below.backing


def _with(option: Option, changes: Mapping[str, object]) -> Option:
    """-blockdev with other properties; in JSON, as only JSON can say "no backing image" (null)."""
    return _blockdev({**option.properties(), **changes})


def _blockdev(properties: Properties) -> Option:
    return Option("blockdev", json.dumps(properties, separators=(",", ":")))


def _build(graph: _Graph, node: BlockNode, record: Recorded | None) -> None:
    """Add a node that isn't on the command line, or refuse it."""
    problem = _problem(node, record)
    if record is None or problem:
        where = f"disk {record.disk}" if record else f"block node {node.name}"
        graph.refused.append(f"{where} was attached or changed since the guest started, and {problem}")
        return
    options = dict(record.options)
    options.setdefault("driver", node.driver)
    if record.local:
        options["filename"] = node.file
    if _is_filter(node) and node.below is not None:
        options["file"] = node.below.data
    elif record.backing is not None or "file" in options:
        options |= _backing(node, record)
    if record.top:
        options["read-only"] = node.read_only
    if node.direct or node.no_flush:
        options["cache"] = {"direct": node.direct, "no-flush": node.no_flush}
    if node.detect_zeroes != "off":
        options["detect-zeroes"] = node.detect_zeroes
    if node.detect_zeroes == "unmap":  # QEMU requires both together (bdrv_parse_detect_zeroes, block.c)
        options["discard"] = "unmap"
    graph.moved[node.name] = _blockdev(options)


def _backing(node: BlockNode, record: Recorded) -> Mapping[str, object]:
    """The backing image of a format that can have one; other drivers refuse the property."""
    if node.driver not in LAYERED:
        return {}
    return {"backing": node.below.backing if node.below is not None else record.backing}


def _problem(node: BlockNode, record: Recorded | None) -> str | None:
    """Why a node can't be built from libvirt's record; the record must match QEMU's node."""
    if record is None:
        return "it isn't in libvirt's record"
    if record.problem:
        return record.problem
    driver = record.options.get("driver")
    if node.driver not in LOCAL if record.local else driver != node.driver:
        return f"block node {node.name} has the driver {node.driver}, but libvirt's record names another"
    if record.local and record.path is not None and record.path != node.file:
        return f"block node {node.name} is {node.file}, but libvirt's record names another file"
    if record.local and node.file.startswith("/dev/fdset/"):
        return f"block node {node.name} was opened by a descriptor"
    return None


def _children(option: Option) -> set[str]:
    """The nodes that an option names as children."""
    properties = option.properties()
    return {value for key in CHILDREN if isinstance(value := properties.get(key), str)}


def _in_order(nodes: Mapping[str, Option]) -> Iterator[Option]:
    """Each node after its children."""
    done: set[str] = set()

    def visit(name: str) -> Iterator[Option]:
        if name in done or name not in nodes:
            return
        done.add(name)
        for child in sorted(_children(nodes[name])):
            yield from visit(child)
        yield nodes[name]

    for name in sorted(nodes):
        yield from visit(name)
