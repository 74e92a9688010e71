#!/usr/bin/env python3
"""Print the packed kernel that a boot image holds (Linux, Documentation/arch/x86/boot.rst: payload_offset)."""

import struct
import sys
from pathlib import Path

ZSTD = b"\x28\xb5\x2f\xfd"


def payload(image: bytes) -> bytes:
    """Without the unpacked size, which is appended to it."""
    protected_mode = (image[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    found = image[protected_mode + offset : protected_mode + offset + length - 4]
    if not found.startswith(ZSTD):
        raise SystemExit("kernel.py: the kernel isn't packed by zstd")
    return found


sys.stdout.buffer.write(payload(Path(sys.argv[1]).read_bytes()))
