"""Files that must be whole or not there at all."""

from __future__ import annotations

import os
from pathlib import Path

from virtcpr.errors import HostError


def replace_durably(path: Path, text: str, *, suffix: str = ".virtcpr") -> None:
    """Replace a file's content: write beside it, fsync, rename; owner and mode as before.

    ``suffix`` names the temporary file; for libvirt's state directories it must not end in ``.xml``, or the daemon
    would read it as a domain (virDomainObjListLoadAllConfigs).  Raises HostError; the old content is there then.
    """
    part = path.with_name(path.name + suffix)
    try:
        before = path.stat()
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A file's content.  Raises HostError."""
    try:
        return path.read_text()
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}") from error


def append_durably(path: Path, line: str) -> None:
    """Append a line and fsync.  Raises HostError."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def remove(*paths: str) -> None:
    """Remove files that may be gone already."""
    for path in paths:
        Path(path).unlink(missing_ok=True)
