"""DAX devices (/dev/dax0.0): persistent memory that QEMU maps as RAM.  They can be mapped, not read, nor fsynced."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from virtcpr.errors import HostError

LIBRARY = "libpmem.so.1"
PAGE = 4096
SAMPLES = 1024  # pages


def is_device(path: str) -> bool:
    return Path(path).is_char_device()


def size(path: str) -> int:
    """Bytes.  Raises HostError if it isn't a DAX device."""
    try:
        number = os.stat(path).st_rdev
        return int(Path(f"/sys/dev/char/{os.major(number)}:{os.minor(number)}/size").read_text())
    except (OSError, ValueError) as error:
        raise HostError(f"{path} isn't a DAX device: {error}", hint="see: daxctl list") from error


def sample(path: str) -> str:
    """A checksum of some pages, all over the device: another guest's RAM has another.  Raises HostError."""
    with _mapped(path) as memory:
        step = max(len(memory) // SAMPLES // PAGE, 1) * PAGE
        digest = hashlib.sha256()
        for offset in range(0, len(memory), step):
            digest.update(memory[offset : offset + PAGE])
        return digest.hexdigest()


def flush(path: str) -> None:
    """Write the processors' caches back to the device: a reset of the host would drop them.

    That is libpmem's pmem_persist(3); QEMU doesn't do it for what its guest writes.  Raises HostError.
    """
    try:
        persist = ctypes.CDLL(LIBRARY).pmem_persist
    except (OSError, AttributeError) as error:
        raise HostError(
            f"{path} can't be flushed: {error}", hint="install libpmem (Debian: libpmem1), then try again"
        ) from error
    persist.argtypes, persist.restype = (ctypes.c_void_p, ctypes.c_size_t), None
    with _mapped(path) as memory:
        start = ctypes.c_char.from_buffer(memory)
        try:
            persist(ctypes.addressof(start), len(memory))
        finally:
            del start  # or the mapping can't be closed


@contextmanager
def _mapped(path: str) -> Iterator[mmap.mmap]:
    length = size(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            memory = mmap.mmap(fd, length, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"the RAM device {path} can't be mapped: {error.strerror}") from error
    with memory:
        yield memory
