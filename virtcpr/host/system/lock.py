"""Only one virtcpr at a time on a host."""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import make_private
from virtcpr.host.system.paths import PATHS

RUN_DIR = PATHS.run


class Lock:
    """The host-wide lock, held from entering to leaving.  Raises HostError if another process has it, or if its
    directory can't be written.

    ``wait``: wait for the lock, without limit.
    """

    def __init__(self, directory: Path = RUN_DIR, *, wait: bool = False) -> None:
        self.path = directory / "lock"
        self.how = fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB
        self.fd = -1

    def __enter__(self) -> Lock:
        try:
            make_private(self.path.parent)
            self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise HostError(
                f"{self.path} can't be opened: {error.strerror}; nothing was touched",
                hint=f"{self.path.parent} must be writable: see df and findmnt",
            ) from error
        try:
            fcntl.flock(self.fd, self.how)
        except BlockingIOError as error:
            holder = os.read(self.fd, 32).decode(errors="replace").strip() or "unknown"
            os.close(self.fd)
            raise HostError(
                f"another virtcpr is at work (process {holder}); nothing was touched",
                hint="wait for it to end, then try again",
            ) from error
        with suppress(OSError):  # only a hint for others: settling a swap must not fail for lack of space
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)
