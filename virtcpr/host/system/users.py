"""Users of the host: whether one exists, and which files it may open."""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress

from virtcpr.host.processes.proc import User


def exists(name: str) -> bool:
    with suppress(KeyError):
        return pwd.getpwnam(name) is not None
    return False


def of(uid: int, gid: int) -> User:
    """A user with its groups; one that has no name has no others."""
    with suppress(KeyError):
        return User(uid, gid, tuple(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)))
    return User(uid, gid)


def may_open(name: str, path: str) -> bool:
    """Whether the mode of a file lets a user read and write it; False if either is missing."""
    try:
        user, status = pwd.getpwnam(name), os.stat(path)
    except (KeyError, OSError):
        return False
    groups = {user.pw_gid, *(group.gr_gid for group in grp.getgrall() if name in group.gr_mem)}
    shift = 6 if status.st_uid == user.pw_uid else 3 if status.st_gid in groups else 0
    return user.pw_uid == 0 or (status.st_mode >> shift) & 6 == 6
