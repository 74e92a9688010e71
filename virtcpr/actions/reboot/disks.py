"""What the disks of a saved guest were like, and whether somebody has written to them since.

A file tells by its size and time of change.  A block device has none: its size, who it is, and a checksum of what
changes when a guest mounts it.  Of the rest (network disks, volumes of a pool, devices whose content hides that) nobody
can tell: whoever restores the guest must know.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from virtcpr.domain import restart, superblocks
from virtcpr.errors import HostError
from virtcpr.host.files import block_devices
from virtcpr.host.files.block_devices import Block

Files = Mapping[str, tuple[int, int]]
Blocks = Mapping[str, Block]


def files(xml: str) -> dict[str, tuple[int, int]]:
    """The files that a domain writes to: path → size, mtime in ns.  Only regular files are listed."""
    listed = {}
    for path in _paths(xml):
        with suppress(OSError):
            if Path(path).is_file():
                status = os.stat(path)
                listed[path] = (status.st_size, status.st_mtime_ns)
    return listed


def blocks(xml: str) -> dict[str, Block]:
    """The block devices that a domain writes to; one that can't be read isn't listed."""
    listed = {}
    for path in _paths(xml):
        with suppress(HostError):
            if block_devices.is_block(path):
                listed[path] = _block(path)
    return listed


def _paths(xml: str) -> Iterator[str]:
    return (disk.path for disk in restart.disks(xml) if disk.path is not None)


def _block(path: str) -> Block:
    with block_devices.Content(path) as content:
        layout = superblocks.layout(content.read, content.size)
        known = hashlib.sha256()
        for offset, length in layout.regions:
            known.update(content.read(offset, length))
        return Block(content.size, block_devices.serial(path), known.hexdigest(), layout.sound)


def changes(xml: str, images: Files, devices: Blocks) -> Iterator[str]:
    """What is certain to have changed since it was recorded, as texts."""
    now = files(xml)
    for path, then in images.items():
        if path not in now:
            yield f"its disk {path} is gone"
        elif now[path] != then:
            yield f"its disk {path} was written to since it was saved"
    there = blocks(xml)
    for path, block in devices.items():
        if path not in there:
            yield f"its disk {path} is gone"
        elif block.is_another(there[path]):
            yield f"its disk {path} is another device than when it was saved"
        elif there[path].sha256 != block.sha256:
            yield f"its disk {path} was written to since it was saved"


def untold(xml: str, images: Files, devices: Blocks) -> tuple[str, ...]:
    """The disks of which nobody can tell whether they were written to since they were recorded so."""
    sound = {path for path, block in devices.items() if block.sound}
    return tuple(disk.label for disk in restart.disks(xml) if disk.path not in images and disk.path not in sound)
