"""SELinux: whether its policy lets virtcpr start a process with a guest's label."""

from __future__ import annotations

import os
from pathlib import Path

from virtcpr.host.processes.proc import Process

ROOT = Path("/sys/fs/selinux")
CURRENT = "attr/current"
PERMISSIVE_DOMAIN = 1  # Linux security/selinux/include/security.h, AVD_FLAGS_PERMISSIVE


def refuses_label(process: Process, own: Path = Path("/proc/self")) -> str | None:
    """The label of a process, if SELinux is enforced and lets this one start no other with it.

    None, too, if the kernel doesn't say.
    """
    try:
        if (ROOT / "enforce").read_text().strip() != "1":
            return None
        current, wanted = (_label(directory) for directory in (own, process.path))
        return wanted if current != wanted and not _may_change(current, wanted) else None
    except (OSError, ValueError, IndexError):
        return None


def _label(directory: Path) -> str:
    return (directory / CURRENT).read_text().strip("\0\n ")


def _may_change(current: str, wanted: str) -> bool:
    """Whether a process may take on another label when it executes a program (Linux security/selinux/hooks.c,
    selinux_bprm_creds_for_exec(); the question and its answer: selinuxfs.c, sel_write_access())."""
    number = (ROOT / "class/process/index").read_text().strip()
    permission = int((ROOT / "class/process/perms/transition").read_text())
    # One file: the kernel keeps the answer for whoever asked.
    fd = os.open(ROOT / "access", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, f"{current} {wanted} {number}".encode())
        answer = os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)
    return bool(int(answer[0], 16) & 1 << permission - 1) or bool(int(answer[5], 16) & PERMISSIVE_DOMAIN)
