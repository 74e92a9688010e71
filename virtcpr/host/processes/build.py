"""Which build of a program a file is."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

PT_NOTE, NT_GNU_BUILD_ID = 4, 3  # elf(5)


def build_of(path: Path) -> str:
    """Identifies the build of an ELF binary: its GNU build id, else a digest of the file.

    ``/proc/PID/exe`` works even after the package manager deleted the file.  Raises OSError.
    """
    with path.open("rb") as file:
        return _build_id(file.fileno()) or "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _build_id(fd: int) -> str | None:
    header = os.pread(fd, 64, 0)
    if header[:6] != b"\x7fELF\x02\x01":  # 64 bits, little endian: every host that QEMU's CPR is built for
        return None
    offset, entry, count = struct.unpack_from("<Q", header, 32)[0], *struct.unpack_from("<HH", header, 54)
    for position in range(count):
        segment = os.pread(fd, entry, offset + position * entry)
        if struct.unpack_from("<I", segment)[0] == PT_NOTE:
            start, size = struct.unpack_from("<Q", segment, 8)[0], struct.unpack_from("<Q", segment, 32)[0]
            for kind, name, value in _notes(os.pread(fd, min(size, 1 << 16), start)):
                if kind == NT_GNU_BUILD_ID and name == b"GNU\0":
                    return value.hex()
    return None


def _notes(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    position = 0
    while position + 12 <= len(data):
        name_size, size, kind = struct.unpack_from("<III", data, position)
        name = position + 12
        value = name + (name_size + 3 & ~3)
        yield kind, data[name : name + name_size], data[value : value + size]
        position = value + (size + 3 & ~3)
