"""Listening sockets for new QEMU, bound beside old QEMU's until the guest is new's."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from virtcpr.errors import HostError

SIOCUNIXFILE = 0x89E0  # linux/un.h: a descriptor (O_PATH) of the file that a socket is bound to; root only
LABEL = "security.selinux"
SOCKETS = "/proc/thread-self/attr/sockcreate"  # the label of sockets that this thread makes, of SELinux alone


def bind(path: str, model: str, like: int | None = None) -> int:
    """A socket that listens at ``path``, with the owner, mode and label of the file ``model``.

    ``like``: a socket whose own label the new one gets, too; SELinux judges by that who may accept and connect, not by
    the file's.  Whoever connects before QEMU accepts waits, as with libvirt's own (qemuOpenChrChardevUNIXSocket).  A
    leftover at ``path`` is removed.  Raises HostError.
    """
    try:
        with _labelled(like):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise HostError(f"{path} can't be made: {error.strerror}") from error
    try:
        with suppress(FileNotFoundError):
            os.unlink(path)
        made.bind(path)
        look_like(made.fileno(), path, model)
        made.listen(1)
    except OSError as error:
        made.close()
        raise HostError(f"{path} can't be made: {error.strerror}") from error
    return made.detach()


@contextmanager
def _labelled(like: int | None) -> Iterator[None]:
    """Sockets that this thread makes in here get the label of this one; without SELinux there is none."""
    label = b""
    if like is not None:
        with suppress(OSError):
            label = os.getxattr(like, LABEL)
    if not label:
        yield
        return
    attribute = os.open(SOCKETS, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(attribute, label)
        try:
            yield
        finally:
            os.write(attribute, b"")  # as before; buffered files leave out a write of nothing
    finally:
        os.close(attribute)


def look_like(listener: int, path: str, model: str) -> None:
    """Give the file of a socket, which is bound at ``path``, the owner, mode and label of the file ``model``.

    By descriptor: its directory may be QEMU's own, which could put another file in the place of this one.  Raises
    OSError.
    """
    wanted = os.stat(model, follow_symlinks=False)
    if os.geteuid() != 0:
        os.chmod(path, wanted.st_mode & 0o7777)
        return
    file = _file(listener)
    try:
        here = f"/proc/self/fd/{file}"
        os.chown(here, wanted.st_uid, wanted.st_gid)
        os.chmod(here, wanted.st_mode & 0o7777)
        with suppress(OSError):  # without SELinux there is none
            os.setxattr(here, LABEL, os.getxattr(model, LABEL, follow_symlinks=False))
    finally:
        os.close(file)


def _file(listener: int) -> int:
    return fcntl.ioctl(listener, SIOCUNIXFILE)


def is_at(listener: int, path: str) -> bool:
    """Whether it is this socket that clients reach at ``path``; a user who isn't root can't tell, and believes it."""
    try:
        there = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    try:
        file = _file(listener)
    except OSError:
        return os.geteuid() != 0
    try:
        own = os.fstat(file)
    finally:
        os.close(file)
    return (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino)
