"""SELinux: what its policy lets virtcpr and libvirt's daemon do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from virtcpr.host.processes.proc import Process

ROOT = Path("/sys/fs/selinux")
OWN = Path("/proc/self")
CURRENT = "attr/current"
SOCKETS = "/proc/thread-self/attr/sockcreate"  # the label of sockets that this thread makes
FILE_LABEL = "security.selinux"
SCRIPT = ("execute", "execute_no_trans", "read", "open", "getattr")  # for one that runs without a label of its own
PERMISSIVE_DOMAIN = 1  # Linux security/selinux/include/security.h, AVD_FLAGS_PERMISSIVE


def enabled() -> bool:
    """Whether this host's kernel uses SELinux; files may have labels without it."""
    return (ROOT / "enforce").exists()


def enforced() -> bool:
    """Whether what the policy doesn't allow is denied on this host."""
    try:
        return (ROOT / "enforce").read_text().strip() == "1"
    except OSError:
        return False


def refuses_label(process: Process, own: Path = OWN) -> str | None:
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


def label_at(fd: int) -> str | None:
    """The label of an open file, of a socket its own; None if there is no SELinux."""
    try:
        return os.getxattr(fd, FILE_LABEL).decode().strip("\0")
    except OSError:
        return None


def client_label(path: str) -> str | None:
    """The label for a socket that is to be connected to a guest's at this path; None if it needs none of its own.

    What a QEMU accepts has its type and the categories of whoever connected (Linux security/selinux/hooks.c,
    selinux_socket_unix_stream_connect()), and QEMU may use no others than its own: those of the domain's directory.
    libvirt does the same (virSecuritySELinuxSetDaemonSocketLabel).
    """
    if not enabled():
        return None
    try:
        directory = os.getxattr(os.path.dirname(path) or ".", FILE_LABEL).decode().strip("\0")
        categories = directory.split(":", 3)[3]
        return ":".join([*_label(OWN).split(":", 3)[:3], categories]) if ":c" in categories else None
    except (OSError, IndexError):
        return None


@contextmanager
def sockets_as(label: str | None) -> Iterator[None]:
    """Sockets that this thread makes in here get this label; None: as ever.  Raises OSError."""
    if label is None:
        yield
        return
    attribute = os.open(SOCKETS, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(attribute, label.encode())
        try:
            yield
        finally:
            os.write(attribute, b"")  # as before; buffered files leave out a write of nothing
    finally:
        os.close(attribute)


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
