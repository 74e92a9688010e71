"""SELinux: what its policy lets virtcpr and libvirt's daemon do."""

from __future__ import annotations

import os
from pathlib import Path

from virtcpr.host.processes.proc import Process

ROOT = Path("/sys/fs/selinux")
CURRENT = "attr/current"
FILE_LABEL = "security.selinux"
SCRIPT = ("execute", "execute_no_trans", "read", "open", "getattr")  # for one that runs without a label of its own
PERMISSIVE_DOMAIN = 1  # Linux security/selinux/include/security.h, AVD_FLAGS_PERMISSIVE


def enforced() -> bool:
    """Whether what the policy doesn't allow is denied on this host."""
    try:
        return (ROOT / "enforce").read_text().strip() == "1"
    except OSError:
        return False


def refuses_label(process: Process, own: Path = Path("/proc/self")) -> str | None:
    """The label of a process, if SELinux is enforced and lets this one start no other with it.

    None, too, if the kernel doesn't say.  (Linux security/selinux/hooks.c, selinux_bprm_creds_for_exec().)
    """
    try:
        current, wanted = (_label(directory) for directory in (own, process.path))
        refused = enforced() and current != wanted and not _allows(current, wanted, "process", "transition")
        return wanted if refused else None
    except (OSError, ValueError, IndexError):
        return None


def label_of(process: Process) -> str | None:
    """The label of a process; None if it has ended, or there is no SELinux."""
    try:
        return _label(process.path)
    except OSError:
        return None


def forbids_running(label: str, path: str | Path) -> bool:
    """Whether SELinux is enforced, and doesn't surely let processes with this label run a script."""
    if not enforced():
        return False
    try:
        file = os.getxattr(path, FILE_LABEL).decode().strip("\0")
        return not all(_allows(label, file, "file", permission) for permission in SCRIPT)
    except (OSError, ValueError, IndexError):
        return True


def _label(directory: Path) -> str:
    return (directory / CURRENT).read_text().strip("\0\n ")


def _allows(source: str, target: str, kind: str, permission: str) -> bool:
    """Whether the policy lets the one label do that to the other (Linux security/selinux/selinuxfs.c,
    sel_write_access())."""
    number = (ROOT / f"class/{kind}/index").read_text().strip()
    bit = 1 << int((ROOT / f"class/{kind}/perms/{permission}").read_text()) - 1
    # One file: the kernel keeps the answer for whoever asked.
    fd = os.open(ROOT / "access", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(fd, f"{source} {target} {number}".encode())
        answer = os.read(fd, 4096).decode().split()
    finally:
        os.close(fd)
    return bool(int(answer[0], 16) & bit) or bool(int(answer[5], 16) & PERMISSIVE_DOMAIN)
