"""Listening sockets for new QEMU, bound beside old QEMU's until the guest is new's."""

from __future__ import annotations

import fcntl
import os
import socket
from contextlib import suppress

from virtcpr.errors import HostError
from virtcpr.host.system import selinux

SIOCUNIXFILE = 0x89E0  # linux/un.h: a descriptor (O_PATH) of the file that a socket is bound to; root only


def bind(path: str, model: str, like: int | None = None) -> int:
    """A socket that listens at ``path``, with the owner, mode and label of the file ``model``.

    ``like``: a socket whose own label the new one gets, too; SELinux judges by that who may accept and connect, not by
    the file's.  Whoever connects before QEMU accepts waits, as with libvirt's own (qemuOpenChrChardevUNIXSocket).  A
    leftover at ``path`` is removed.  Raises HostError.
    """
    try:
        with selinux.sockets_as(None if like is None else selinux.label_at(like)):
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
            os.setxattr(here, selinux.FILE_LABEL, os.getxattr(model, selinux.FILE_LABEL, follow_symlinks=False))
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
