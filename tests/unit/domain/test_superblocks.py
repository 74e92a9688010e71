"""What of a disk is compared, and when an unchanged one proves that nobody has mounted it."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import pytest

from virtcpr.domain.superblocks import BIOS_BOOT, BTRFS, BTRFS_MAGIC, EXT, EXT_MAGIC, HIDING, Layout, layout

MIB = 1 << 20
SIZE = 8 * MIB
LINUX = bytes(range(1, 17))
SWAP, FAT = (4086, b"SWAPSPACE2"), (82, b"FAT32")
LVM = (512, b"LABELONE")
Magic = tuple[int, bytes]


def disk(parts: Mapping[int, Magic | tuple[Magic, ...]], *tables: Magic) -> bytes:
    """Magic numbers by the offset of their volume."""
    image = bytearray(SIZE)
    for offset, data in tables:
        image[offset : offset + len(data)] = data
    for start, magics in parts.items():
        for offset, data in [magics] if isinstance(magics[0], int) else magics:
            image[start + offset : start + offset + len(data)] = data
    return bytes(image)


def gpt(*parts: tuple[int, int, bytes], sector: int = 512, entry: int = 128, count: int = 128) -> tuple[Magic, ...]:
    """(start, length, type) in bytes."""
    header = b"EFI PART" + bytes(64) + struct.pack("<QII", 2, count, entry) + bytes(4)
    table = b"".join(
        kind + bytes(16) + struct.pack("<QQ", start // sector, (start + length) // sector - 1) + bytes(entry - 48)
        for start, length, kind in parts
    )
    return (510, b"\x55\xaa"), (sector, header), (2 * sector, table)


def mbr(*parts: tuple[int, int, int]) -> tuple[Magic, ...]:
    entries = b"".join(
        b"\x00\0\0\0" + bytes([kind]) + bytes(3) + struct.pack("<II", start // 512, length // 512)
        for kind, start, length in parts
    )
    return (446, entries), (510, b"\x55\xaa")


def read(image: bytes) -> Layout:
    return layout(lambda offset, length: image[offset : offset + length], len(image))


def regions(*starts: tuple[int, tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    return ((0, 32 << 10), *((start + block[0], block[1]) for start, block in starts))


def test_a_file_system_of_the_whole_disk() -> None:
    assert read(disk({0: EXT_MAGIC})) == Layout(regions((0, EXT)), sound=True)
    assert read(disk({0: BTRFS_MAGIC})) == Layout(regions((0, BTRFS)), sound=True)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_guest_with_its_files_in_a_partition(sector: int) -> None:
    parts = gpt(
        (MIB, MIB, BIOS_BOOT), (2 * MIB, MIB, LINUX), (3 * MIB, MIB, LINUX), (4 * MIB, MIB, LINUX), sector=sector
    )
    image = disk({MIB: (0, b"grub"), 2 * MIB: FAT, 3 * MIB: EXT_MAGIC, 4 * MIB: SWAP}, *parts)
    assert read(image) == Layout(regions((3 * MIB, EXT)), sound=True)


def test_an_older_partition_table() -> None:
    image = disk({MIB: BTRFS_MAGIC, 2 * MIB: EXT_MAGIC}, *mbr((0x83, MIB, MIB), (0x83, 2 * MIB, MIB)))
    assert read(image) == Layout(regions((MIB, BTRFS), (2 * MIB, EXT)), sound=True)


@pytest.mark.parametrize("magic", HIDING)
def test_what_hides_its_content_is_not_sound(magic: Magic) -> None:
    assert not read(disk({0: magic})).sound
    image = disk({MIB: EXT_MAGIC, 2 * MIB: magic}, *mbr((0x83, MIB, MIB), (0x83, 2 * MIB, MIB)))
    assert read(image) == Layout(regions((MIB, EXT)), sound=False)


@pytest.mark.parametrize(
    "image",
    [
        disk({}),
        disk({0: (0, b"who knows")}),
        disk({MIB: FAT}, *mbr((0x0C, MIB, MIB))),
        disk({MIB: SWAP}, *gpt((MIB, MIB, LINUX))),
        disk({MIB: EXT_MAGIC}, *mbr((0x83, MIB, MIB), (0x05, 2 * MIB, MIB))),
        disk({MIB: EXT_MAGIC}, *mbr((0x83, MIB, SIZE))),
        disk({MIB: EXT_MAGIC}, *gpt((MIB, MIB, LINUX), count=1 << 20)),
        disk({MIB: EXT_MAGIC}, *gpt((MIB, MIB, LINUX), (2 * MIB, 0, LINUX))),
        disk({0: (EXT_MAGIC, BTRFS_MAGIC)}),
        disk({0: (EXT_MAGIC, LVM)}),
    ],
    ids=[
        "empty", "unknown", "only FAT", "only swap", "an extended partition", "longer than the disk",
        "a table too long", "a partition of no length", "one of two is left from before", "left under LVM",
    ],
)  # fmt: skip
def test_what_is_not_understood_is_not_sound(image: bytes) -> None:
    assert not read(image).sound


def test_a_superblock_that_is_left_from_before_it_was_partitioned() -> None:
    image = disk({0: EXT_MAGIC, MIB: HIDING[0]}, *mbr((0x83, MIB, MIB)))
    assert not read(image).sound


def test_a_file_system_s_own_boot_sector_is_no_partition_table() -> None:
    assert read(disk({0: EXT_MAGIC}, (446, b"boot code"), (510, b"\x55\xaa"))).sound


@pytest.mark.parametrize("size", [0, 100, 512, 1 << 10, 5000])
def test_a_disk_that_is_tiny(size: int) -> None:
    image = disk({0: EXT_MAGIC})[:size]
    whole = layout(lambda offset, length: image[offset : offset + length], size)
    assert whole.regions[0] == (0, size)
