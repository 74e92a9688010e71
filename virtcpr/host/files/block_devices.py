"""Block devices as a guest's disks: their size, who they are, and what they hold, read past the page cache."""

from __future__ import annotations

import fcntl
import mmap
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virtcpr.errors import HostError

SYSFS = Path("/sys/dev/block")
# Who a device is over a reboot: a volume of LVM or multipath, a SCSI or NVMe disk, a virtio disk, a loop device.
SERIALS = ("dm/uuid", "wwid", "device/wwid", "device/serial", "serial", "loop/backing_file")
ALIGNMENT = 4096  # of O_DIRECT, on every device


@dataclass(frozen=True)
class Block:
    """A block device as it was: ``sha256`` is of its partition table and superblocks; ``sound``: they change whenever
    a guest mounts it to write."""

    size: int
    serial: str
    sha256: str
    sound: bool

    def is_another(self, now: Block) -> bool:
        """Whether the device of that name is certain to be another one now."""
        return self.size != now.size or (bool(self.serial and now.serial) and self.serial != now.serial)


def is_block(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def serial(path: str) -> str:
    """Who it is, and which partition of it; empty if Linux doesn't know.  Raises HostError if it isn't there."""
    try:
        number = os.stat(path).st_rdev
    except OSError as error:
        raise HostError(f"{path} can't be looked at: {error.strerror}") from error
    device = SYSFS / f"{os.major(number)}:{os.minor(number)}"
    part = _text(device / "partition")
    disk = device.resolve().parent if part else device
    known = next((f"{name} {text}" for name in SERIALS if (text := _text(disk / name))), "")
    return f"{known} {part}".strip() if known else ""


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(errors="replace").strip()
    return ""


class Content:
    """A device, or a file, that is open for reading.  ``size`` in bytes."""

    def __init__(self, path: str) -> None:
        """Raises HostError if it can't be opened."""
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self.size = os.lseek(self._fd, 0, os.SEEK_END)
        except OSError as error:
            raise HostError(f"{path} can't be read: {error.strerror}") from error
        with suppress(OSError):  # what another host has written isn't in this one's cache
            fcntl.fcntl(self._fd, fcntl.F_SETFL, fcntl.fcntl(self._fd, fcntl.F_GETFL) | os.O_DIRECT)

    def read(self, offset: int, length: int) -> bytes:
        """Fewer bytes at the end.  Raises HostError."""
        start = offset - offset % ALIGNMENT
        end = min(-(-(offset + length) // ALIGNMENT) * ALIGNMENT, self.size)
        if end <= start:
            return b""
        try:
            with mmap.mmap(-1, -(-(end - start) // ALIGNMENT) * ALIGNMENT) as buffer:  # memory that is aligned
                count = os.preadv(self._fd, [buffer], start)
                return buffer[:count][offset - start : offset - start + length]
        except OSError as error:
            raise HostError(f"{self.path} can't be read: {error.strerror}") from error

    def __enter__(self) -> Content:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
