"""What of a disk's content changes when somebody mounts it: partition tables and superblocks, by their magic numbers.

ext2, 3 and 4 write their superblock at every mount for writing (ext4_setup_super, fs/ext4/super.c), btrfs at every
commit.  XFS may write its log alone, NTFS its files; LVM, LUKS and qcow2 hide what is in them: of a disk with one of
these an unchanged superblock tells nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

Read = Callable[[int, int], bytes]  # offset, length → bytes, fewer at the end of the disk

TABLE = 32 << 10  # bytes at the start of a disk that hold either kind of partition table
HEAD = 72 << 10  # bytes at the start of a volume that hold every magic number
EXT, BTRFS = (1024, 1024), (64 << 10, 4096)  # superblocks: offset, length
# Magic numbers: offset, bytes.
EXT_MAGIC, BTRFS_MAGIC = (1024 + 56, b"\x53\xef"), (BTRFS[0] + 64, b"_BHRfS_M")
HIDING = (
    (0, b"XFSB"), (3, b"NTFS    "), (0, b"LUKS\xba\xbe"), (0, b"QFI\xfb"), (4096, b"\xfc\x4e\x2b\xa9"),
    *((sector * 512, b"LABELONE") for sector in range(4)),
)  # fmt: skip
# What a guest that boots doesn't have its files in: swap space, and the firmware's own file system.
BESIDE = ((4086, b"SWAPSPACE2"), (54, b"FAT"), (82, b"FAT32"))
BIOS_BOOT = bytes.fromhex("4861682149646f6e744e656564454649")  # the type of GRUB's partition (GPT)
EXTENDED = (0x05, 0x0F, 0x85)
MOST = 1024  # partitions


@dataclass(frozen=True)
class Layout:
    """``regions`` (offset, length) are to be compared; ``sound``: they change whenever a guest mounts the disk."""

    regions: tuple[tuple[int, int], ...]
    sound: bool


@dataclass(frozen=True)
class Volume:
    start: int
    length: int
    used: bool = True  # False: nothing of a guest's is in it, by its type
    clear: bool = True  # False: it is made of others that aren't looked at


def layout(read: Read, size: int) -> Layout:
    """What is on a disk of ``size`` bytes.  Raises what ``read`` raises."""
    regions = [(0, min(TABLE, size))]
    mounted, clear = False, True
    volumes = list(_gpt(read, size)) or list(_mbr(read, size)) or [Volume(0, size)]
    for volume in volumes:
        blocks = _superblock(read(volume.start, min(HEAD, volume.length))) if volume.used else ()
        clear &= volume.clear and blocks is not None
        for offset, length in blocks or ():
            regions.append((volume.start + offset, length))
            mounted = True
    return Layout(tuple(regions), mounted and clear)


def _superblock(head: bytes) -> tuple[tuple[int, int], ...] | None:
    """Where it is; empty if nothing is mounted from here, None if it isn't known what changes."""

    def has(magic: tuple[int, bytes]) -> bool:
        return head[magic[0] : magic[0] + len(magic[1])] == magic[1]

    if any(map(has, HIDING)):
        return None
    match has(EXT_MAGIC), has(BTRFS_MAGIC):
        case True, False:
            return (EXT,)
        case False, True:
            return (BTRFS,)
        case True, True:  # one of them is left from before
            return None
    return () if any(map(has, BESIDE)) else None


def _gpt(read: Read, size: int) -> Iterator[Volume]:
    """UEFI specification, 5.3: header in the second sector."""
    for sector in (512, 4096):
        header = read(sector, 92)
        if header[:8] != b"EFI PART" or len(header) < 92:
            continue
        at, count, length = struct.unpack_from("<QII", header, 72)
        if count > MOST or not 128 <= length <= 4096:
            yield Volume(0, size, clear=False)
            return
        table = read(at * sector, count * length)
        for offset in range(0, len(table) - 47, length):
            first, last = struct.unpack_from("<QQ", table, offset + 32)
            kind = table[offset : offset + 16]
            if any(kind):
                yield _within(first * sector, (last - first + 1) * sector, size, used=kind != BIOS_BOOT)
        return


def _mbr(read: Read, size: int) -> Iterator[Volume]:
    """Four entries of 16 bytes.  A file system's own boot sector has the same signature, and no such entries."""
    sector = read(0, 512)
    if sector[510:512] != b"\x55\xaa":
        return
    entries = [sector[at : at + 16] for at in range(446, 510, 16)]
    if any(entry[0] not in (0, 0x80) for entry in entries):
        return
    for entry in entries:
        kind, first, count = entry[4], *struct.unpack_from("<II", entry, 8)
        if kind and count:
            yield _within(first * 512, count * 512, size, clear=kind not in EXTENDED)


def _within(start: int, length: int, size: int, *, used: bool = True, clear: bool = True) -> Volume:
    return Volume(start, length, used, clear and 0 < length <= size - start)
