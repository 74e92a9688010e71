"""Files that must be complete or absent."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import tempfile
from itertools import count
from pathlib import Path

from virtcpr.errors import HostError

MAX_DOCUMENT = 1 << 20  # bytes; the XML of a domain has some ten thousand
# Suffix of the temporary file.  In libvirt's state directories it must not be ``.xml``: the daemon would read it as a
# domain (virDomainObjListLoadAllConfigs).
SUFFIX = ".virtcpr"


def replace_durably(path: Path, text: str) -> None:
    """Replace a file's content: write a temporary file, fsync, rename.  Owner and mode stay; a new file is 0600.

    This uses the space that ``reserve`` set aside.  On HostError the old content is still there.
    """
    part = path.with_name(path.name + SUFFIX)
    try:
        before = path.stat() if path.exists() else None
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.ftruncate(file.fileno(), len(text.encode()))
            if before is not None:
                os.fchown(file.fileno(), before.st_uid, before.st_gid)
                os.fchmod(file.fileno(), before.st_mode & 0o7777)
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def reserve(path: Path, size: int) -> None:
    """Set aside ``size`` bytes for ``replace_durably``, so that it can't fail for lack of space.  Raises HostError."""
    part = path.with_name(path.name + SUFFIX)
    try:
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, size)
        finally:
            os.close(fd)
    except OSError as error:
        unreserve(path)
        raise HostError(f"{path} couldn't be written: {error.strerror}") from error


def unreserve(path: Path) -> None:
    """Give back what ``reserve`` set aside, if that is still there."""
    with contextlib.suppress(OSError):
        path.with_name(path.name + SUFFIX).unlink(missing_ok=True)


def make_private(directory: Path) -> None:
    """Make a directory that only its owner can read, and its missing parents in the same way.

    (``Path.mkdir`` makes parents with the umask.)  Raises OSError.
    """
    for path in reversed([directory, *directory.parents]):
        if path == directory or not path.exists():
            path.mkdir(mode=0o700, exist_ok=True)


def read_text(path: Path) -> str:
    """A file's content.  Raises HostError."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise HostError(f"{path} can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise HostError(f"{path} isn't text in UTF-8 (byte {error.start})") from error


def keep(directory: Path, name: str, text: str) -> Path:
    """Write a new file that only its owner can read, durably; returns its path.

    ``name`` is made unique.  Raises HostError.
    """
    try:
        make_private(directory)
        stem, suffix = os.path.splitext(name)
        for number in count(1):
            path = directory / (name if number == 1 else f"{stem}-{number}{suffix}")
            with contextlib.suppress(FileExistsError):
                fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                with os.fdopen(fd, "w", encoding="utf-8", newline="") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                return path
        raise AssertionError("numbers don't end")
    except OSError as error:
        raise HostError(f"{directory / name} can't be written: {error.strerror}") from error


def read_document(source: str, limit: int = MAX_DOCUMENT) -> str:
    """Read a document that the user names: a path, or ``-`` for stdin.  Reads ``limit`` bytes at most.

    Raises HostError if it can't be read, is bigger, or isn't text in UTF-8.
    """
    name = "stdin" if source == "-" else source
    try:
        with contextlib.nullcontext(sys.stdin.buffer) if source == "-" else open(source, "rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise HostError(f"{name} can't be read: {error.strerror}") from error
    if len(data) > limit:
        raise HostError(f"{name} has more than {limit >> 20} MiB: that is no domain's XML")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise HostError(
            f"{name} isn't text in UTF-8 (byte {error.start})", hint="convert it: iconv -t utf-8"
        ) from error


def kind_of(path: Path) -> str:
    """``file``, ``directory``, ``device`` or ``missing``."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return "missing"
    names = ((stat.S_ISREG, "file"), (stat.S_ISDIR, "directory"))
    return next((name for test, name in names if test(mode)), "device")


def write_private(path: Path, text: str) -> None:
    """Replace a whole file that only its owner can read; without fsync.  Raises HostError."""
    part = path.with_name(path.name + ".part")
    try:
        make_private(path.parent)
        part.unlink(missing_ok=True)
        fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(text)
        part.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def write_public(path: Path, text: str) -> None:
    """Replace a whole file that everybody may read.  Its directory may belong to another user.  Raises HostError."""
    part = None
    try:
        fd, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # a new file with an unpredictable name
        with os.fdopen(fd, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
        os.replace(part, path)
    except OSError as error:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def append_durably(path: Path, line: str) -> None:
    """Append a line to a file that only its owner can read, and fsync.  Raises HostError.

    Then a part of the line may be there; the next one is a line of its own all the same.
    """
    try:
        make_private(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "a", encoding="utf-8") as file:
            size = os.fstat(fd).st_size
            torn = size > 0 and os.pread(fd, 1, size - 1) != b"\n"  # the disk was full
            file.write(("\n" if torn else "") + line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise HostError(f"{path} can't be written: {error.strerror}") from error


def remove(*paths: str) -> None:
    """Remove files, which may be gone already."""
    for path in paths:
        Path(path).unlink(missing_ok=True)
