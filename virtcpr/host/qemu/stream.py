"""A guest's state between QEMU and a file, by a pipe: counted and digested on its way.

QEMU gets no descriptor of the file itself: AppArmor and SELinux would look at its path.
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

CHUNK = 1 << 20  # bytes; also the pipe's size, which is the most that a user may ask for (pipe(7))
STALL_SECONDS = 30.0  # nothing moved for so long: QEMU or the storage hangs


@dataclass(frozen=True)
class Digest:
    """What went through: bytes, and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Stream:
    """A pipe whose one end is QEMU's (``theirs``), and a thread between the other and a file.

    ``theirs`` is to be given away, then closed by ``given``.
    """

    def __init__(self, path: Path, *, out: bool) -> None:
        """``out``: from QEMU to a new file, which nobody but its owner can read; else from the file to QEMU.

        Raises HostError where the file can't be opened.
        """
        self.path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if out else os.O_RDONLY
        try:
            file = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise HostError(f"{path} can't be opened: {error.strerror}") from error
        reader, writer = os.pipe2(os.O_CLOEXEC)
        with contextlib.suppress(OSError):  # a user who has many pipes gets smaller ones
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, CHUNK)
        self.theirs = writer if out else reader
        ends = (reader, file) if out else (file, writer)
        self._size, self._sha256, self._out = 0, hashlib.sha256(), out
        self._problem: OSError | None = None
        self._thread = threading.Thread(target=self._carry, args=ends, daemon=True)
        self._thread.start()

    def given(self) -> None:
        """QEMU has its end; ours is closed, so that either notices the other's end."""
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
        except OSError as error:  # QEMU notices, too: its end of the pipe is gone
            self._problem = error
        finally:
            os.close(source)
            os.close(target)

    def end(self) -> Digest:
        """Wait until all is through.  Raises HostError where the file failed, or nothing moves for STALL_SECONDS."""
        moved, since = -1, time.monotonic()
        while self._thread.is_alive():
            if self._size != moved:
                moved, since = self._size, time.monotonic()
            elif time.monotonic() - since > STALL_SECONDS:
                raise HostError(f"{self.path}: nothing was moved for {STALL_SECONDS:g} s")
            self._thread.join(0.25)
        if self._problem is not None and not isinstance(self._problem, BrokenPipeError):
            verb = "written" if self._out else "read"
            raise HostError(f"{self.path} can't be {verb}: {self._problem.strerror}")
        return Digest(self._size, self._sha256.hexdigest())


def digest(path: Path) -> Digest:
    """What a file holds.  Raises HostError."""
    try:
        with path.open("rb") as file:
            return Digest(os.fstat(file.fileno()).st_size, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}") from error
