"""Files with a guest's RAM, which are kept when its domain ends: libvirt deletes their directory."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.files import dax
from virtcpr.host.files.atomic import write_private
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.lock import RUN_DIR

STARTING = RUN_DIR / "starting"  # known to hooks/libvirt-qemu, too


@dataclass(frozen=True)
class Identity:
    """What changes if a file is written to, or replaced by another.

    A device has another inode after each boot, and no time: instead, ``sample`` is a checksum of a part of it.
    """

    inode: int
    size: int
    modified_ns: int
    sample: str = ""


def aside(path: str, uuid: str) -> str:
    """Where the RAM file of a domain is kept: beside libvirt's directory of it, so on the same file system."""
    return str(Path(path).parents[1] / f"virtcpr-{uuid}" / Path(path).name)


def keep(path: str, uuid: str, process: Process) -> str:
    """Give the file that a running QEMU uses as RAM a second name, and return that name.

    Raises HostError if that can't be done, or if QEMU uses another file.
    """
    kept = Path(aside(path, uuid))
    try:
        directory = _own_directory(kept.parent)
        try:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(kept.name, dir_fd=directory)
            os.link(path, kept.name, dst_dir_fd=directory, follow_symlinks=False)
            status = os.stat(kept.name, dir_fd=directory, follow_symlinks=False)
        finally:
            os.close(directory)
        made_by_it = stat.S_ISREG(status.st_mode) and status.st_uid == process.user().uid
    except OSError as error:
        raise HostError(f"the RAM file {path} can't be kept as {kept}: {error.strerror}") from error
    if not made_by_it or not has_open(process, str(kept)):
        forget(str(kept))
        raise HostError(f"QEMU (process {process.pid}) doesn't use {path} as RAM")
    return str(kept)


def _own_directory(path: Path) -> int:
    """Open a directory for root alone, and make it if it is missing; returns its descriptor.

    Its parent belongs to QEMU's user, so a QEMU that its guest has taken over may have put something there.
    Raises OSError, and HostError for a directory that another user owns.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.fstat(fd).st_uid != os.geteuid():
            raise HostError(f"{path} isn't owned by root", hint="find out who made it, then remove it")
        os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def has_open(process: Process, path: str) -> bool:
    """Whether a process has this very file, or device, open.  Raises HostError if it is gone."""
    try:
        wanted = os.stat(path)
        links = list((process.path / "fd").iterdir())
    except OSError as error:
        raise HostError(f"{error.filename}: {error.strerror}") from error
    for link in links:
        with contextlib.suppress(OSError):
            status = os.stat(link)
            if _file_id(status) == _file_id(wanted):
                return True
    return False


def _file_id(status: os.stat_result) -> tuple[int, ...]:
    """A device is compared by number: it is another inode in QEMU's /dev."""
    return (status.st_rdev,) if stat.S_ISCHR(status.st_mode) else (status.st_dev, status.st_ino)


def identity(path: str) -> Identity:
    """Raises HostError if the file is missing."""
    if dax.is_device(path):
        return Identity(0, dax.size(path), 0, dax.sample(path))
    try:
        status = os.stat(path)
    except OSError as error:
        raise HostError(f"the RAM file {path} can't be looked at: {error.strerror}") from error
    return Identity(status.st_ino, status.st_size, status.st_mtime_ns)


def write_back(path: str) -> None:
    """Write all of the file back to its storage.  Raises HostError."""
    if dax.is_device(path):
        dax.flush(path)
        return
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise HostError(f"the RAM file {path} can't be written back: {error.strerror}") from error


def forget(path: str) -> None:
    """Remove a kept name, and its directory if that is empty.  The file is freed when no QEMU has it open any more."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(path))


def announce(uuid: str, directory: str) -> None:
    """Let libvirt's `qemu` hook allow this start, and link what is in ``directory`` (\"\": nothing) into the new
    domain's own.  Raises HostError."""
    write_private(STARTING / uuid, f"{directory}\n")


def started(uuid: str) -> None:
    """The start is over, successful or not."""
    with contextlib.suppress(OSError):
        (STARTING / uuid).unlink(missing_ok=True)


def remove_directory(path: str) -> None:
    """Remove a directory of kept files that is no longer needed."""
    shutil.rmtree(path, ignore_errors=True)
