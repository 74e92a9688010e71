"""A guest's state between QEMU and a file, through a pipe, which is counted and digested.

QEMU gets no descriptor of the file itself: AppArmor and SELinux would check its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from virtcpr.errors import HostError

CHUNK = 1 << 20  # bytes; also the pipe's size, the most that a user may request (pipe(7))
STALL_SECONDS = 30.0  # after so long without data QEMU or the storage hangs


@dataclass(frozen=True)
class Digest:
    """Number of bytes that passed, and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Stream:
    """A pipe with one end for QEMU (``theirs``), and a thread that copies between the other end and a file.

    Give ``theirs`` to QEMU, then call ``given``, which closes it here.
    """

    def __init__(self, path: Path, *, out: bool) -> None:
        """``out``: from QEMU to a new file, which only its owner can read; else from the file to QEMU.

        Raises HostError if the file can't be opened.
        """
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if out else os.O_RDONLY
        try:
            file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"{path} can't be opened: {error.strerror}") from error
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a user with many pipes gets smaller ones
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, CHUNK)
        self.theirs = writer if out else reader
        ends = (reader, file) if out else (file, writer)
        self._size, self._sha256, self._out = 0, hashlib.sha256(), out
        self._problem: OSError | None = None
        self._thread = threading.Thread(target=self._carry, args=ends, daemon=True)
        self._thread.start()

    def given(self) -> None:
        """QEMU has its end: close ours, so that each side notices when the other ends."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def _carry(self, source: int, target: int) -> None:
        try:
            while data := os.read(source, CHUNK):
                self._sha256.update(data)
                view = memoryview(data)
                while view:
                    view = view[os.write(target, view) :]
                self._size += len(data)
        except OSError as error:  # QEMU notices, too: the other end of its pipe is closed
            self._problem = error
        finally:
            os.close(source)
            os.close(target)

    def end(self) -> Digest:
        """Wait until all data has passed.  Raises HostError if the file failed, or no data moves for STALL_SECONDS."""
        moved, since = -1, time.monotonic()
        while self._thread.is_alive():
            if self._size != moved:
                moved, since = self._size, time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS:
                raise HostError(f"{self.path}: no data moved for {STALL_SECONDS:g} s")
            self._thread.join(0.25)
        if self._problem is not None and not isinstance(self._problem, BrokenPipeError):
            verb = "written" if self._out else "read"
            raise HostError(f"{self.path} can't be {verb}: {self._problem.strerror}")
        return Digest(self._size, self._sha256.hexdigest())


def digest(path: Path) -> Digest:
    """Size and SHA-256 of a file.  Raises HostError."""
    try:
        with path.open("rb") as file:
            return Digest(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}") from error


def size(path: Path) -> int:
    """How many bytes a file has.  Raises HostError."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}") from error
