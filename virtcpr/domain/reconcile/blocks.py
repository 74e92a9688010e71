"""Disk images: the graph of block nodes as it is, and what each drive holds.

A node of the command line stays where QEMU still has one of that name, driver and file: what it was told besides, it
was told for good.  What it is on top of may be another node now, and it may have become writable, or no longer be so.
Nodes that came since are made of libvirt's record; those that went are left out, and with them their files.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field, replace

from virtcpr.domain.argv import CommandLine, Option, Properties
from virtcpr.domain.disks import Recorded, recorded
from virtcpr.domain.facts import BlockNode, Drive, QemuFacts
from virtcpr.domain.reconcile.change import Change

# Drivers whose file QEMU calls as it was told to.
LOCAL = frozenset({"file", "host_device", "host_cdrom"})
# Formats that are on top of another image (qapi/block-core.json, BlockdevOptionsGenericCOWFormat).
LAYERED = frozenset({"qcow", "qcow2", "qed", "vmdk"})
# Options that stand for a -drive whose medium can be changed, or its changes kept in a file of QEMU's own.
SHORT = frozenset({"hda", "hdb", "hdc", "hdd", "cdrom", "fda", "fdb", "sd"})
# Properties that name another node.
CHILDREN = ("file", "backing", "data-file")


@dataclass
class _Graph:
    """The nodes for the new command line: in their place, or to be added at its end in order."""

    kept: dict[Option, Option | None] = field(default_factory=dict)
    moved: dict[str, Option] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)


def change(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Change:
    """Which -blockdev go, change and come; the disk's name is in what is refused."""
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
        else:  # what it is on top of comes later on
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
    """Of ``-drive`` and the like, which an administrator gave QEMU past libvirt: those whose medium is another one now
    or out, as far as can be told, and those whose changes are in a file that only old QEMU has."""
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
    """The same line with the node that each device has now, or none where its medium is out.

    Whatever its own ``drive`` says: on the command line that is of the start, and of a USB disk QEMU takes it away when
    the device is made (usb_msd_storage_realize, hw/usb/dev-storage-classic.c).
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
    # QEMU makes of a floppy drive what its medium needs (pick_drive_type, hw/block/fdc.c): it must stay what it is.
    return changed.with_properties({"drive-type": drive.floppy}) if drive.floppy else changed


def _corrected(option: Option, node: BlockNode) -> Option | None:
    """The option as the node is now, or None if it is of another image."""
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
    """QEMU calls what a filter is on top of both its data and its backing (bdrv_filter_or_cow_bs)."""
    return node.below is not None and node.below.data is not None and node.below.data == node.below.backing


def _with(option: Option, changes: Mapping[str, object]) -> Option:
    """-blockdev with other properties; JSON, as only that has a word for no backing image."""
    return _blockdev({**option.properties(), **changes})


def _blockdev(properties: Properties) -> Option:
    return Option("blockdev", json.dumps(properties, separators=(",", ":")))


def _build(graph: _Graph, node: BlockNode, record: Recorded | None) -> None:
    """Add a node that no command line tells of, or refuse it."""
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
    if node.detect_zeroes == "unmap":  # QEMU has it only with the other (bdrv_parse_detect_zeroes, block.c)
        options["discard"] = "unmap"
    graph.moved[node.name] = _blockdev(options)


def _backing(node: BlockNode, record: Recorded) -> Mapping[str, object]:
    """The backing image of a format that can have one; for the others QEMU refuses the word."""
    if node.driver not in LAYERED:
        return {}
    return {"backing": node.below.backing if node.below is not None else record.backing}


def _problem(node: BlockNode, record: Recorded | None) -> str | None:
    """Why a node can't be made of libvirt's record: it must be that which QEMU has."""
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
    """The nodes that a node is told to be on top of."""
    properties = option.properties()
    return {value for key in CHILDREN if isinstance(value := properties.get(key), str)}


def _in_order(nodes: Mapping[str, Option]) -> Iterator[Option]:
    """Each after what it is on top of."""
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
