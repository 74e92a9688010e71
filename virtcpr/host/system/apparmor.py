"""AppArmor: what the kernel says of a loaded profile, and what is written in the profile of every guest."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path

from virtcpr.host.processes.proc import Process

LOADED = Path("/sys/kernel/security/apparmor/profiles")
ACCESS = Path("/sys/kernel/security/apparmor/.access")
# Linux security/apparmor/apparmorfs.c, aa_write_access() and query_label(); include/apparmor.h, AA_CLASS_FILE.
FILE_CLASS = b"\x02"
MAY_EXEC, MAY_WRITE = 1, 2
# How AppArmor names a memfd of huge pages: it has no path below any root.  It doesn't see other memfds (Linux
# security/apparmor/path.c, d_namespace_path(); fs/hugetlbfs/inode.c, hugetlb_file_setup()).
MEMFD = "/"
ALLOWED = re.compile(r"^allow 0x([0-9a-f]+)$", re.MULTILINE)
ENFORCED = " (enforce)"
ENABLED = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = Path("/etc/apparmor.d")
# What the profile of every guest is made from, and what that includes.
ABSTRACTIONS = (
    "abstractions/libvirt-qemu",
    "abstractions/libvirt-qemu.d/*",
    "local/abstractions/libvirt-qemu",
    "libvirt/TEMPLATE.qemu",
)
FILE_RULE = re.compile(r'^\s*(?:owner\s+)?"?(?P<path>/[^\s"]*)"?\s+(?P<access>[a-zA-Z]+),')
GLOBS = {"**": ".*", "*": "[^/]*", "?": "[^/]", "{": "(?:", "}": ")", ",": "|"}


def enforces(names: Collection[str]) -> bool:
    """Whether a profile with one of these names is loaded and enforced; True if that can't be read."""
    try:
        profiles = [line.rpartition(" ") for line in LOADED.read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # unknown
        return True
    return any(os.path.basename(name) in names and mode == "(enforce)" for name, _, mode in profiles)


def profile_of(process: Process) -> str | None:
    """The profile that confines a process; None if none does, or it only complains."""
    try:
        label = (process.path / "attr/apparmor/current").read_text().strip("\0\n ")
    except OSError:  # no AppArmor
        return None
    return label.removesuffix(ENFORCED) if label.endswith(ENFORCED) else None


def forbids(profile: str, path: str, access: int = MAY_EXEC) -> bool:
    """Whether a profile doesn't let its processes run a program, or write to a file; False if the kernel doesn't say.

    The kernel judges the file that links lead to.
    """
    query = b"label\0" + profile.encode() + b"\0" + FILE_CLASS + os.path.realpath(path).encode()
    try:
        # One file: the kernel keeps the answer for whoever asked.
        fd = os.open(ACCESS, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.write(fd, query)
            answer = os.read(fd, 4096).decode()
        finally:
            os.close(fd)
    except OSError:
        return False
    allowed = ALLOWED.search(answer)
    return allowed is not None and not int(allowed[1], 16) & access


def confines_guests() -> bool:
    """Whether this host has AppArmor, and libvirt's profiles for it."""
    with suppress(OSError):
        return ENABLED.read_text().strip() == "Y" and (PROFILES / ABSTRACTIONS[0]).exists()
    return False


def lets_guests_open(path: str) -> bool:
    """Whether a line that is in the profile of every guest lets it read and write this file."""
    return any(_allows(rule, path, {"r", "w"}) for rule in _rules())


def lets_guests_run(path: str) -> bool:
    """Whether a line that is in the profile of every guest, from its next start on, lets it run this program."""
    return any(_allows(rule, os.path.realpath(path), {"x"}) for rule in _rules())


def _rules() -> Iterator[str]:
    for pattern in ABSTRACTIONS:
        for path in PROFILES.glob(pattern):
            with suppress(OSError):
                yield from path.read_text(errors="replace").splitlines()


def _allows(rule: str, path: str, access: set[str]) -> bool:
    """apparmor.d(5), File rules and Globbing; without variables."""
    found = FILE_RULE.match(rule)
    if found is None or not access <= set(found["access"]):
        return False
    parts = re.split(r"(\*\*|\*|\?|[{},]|\[[^]]*\])", found["path"])
    pattern = "".join(GLOBS.get(part, part if part.startswith("[") else re.escape(part)) for part in parts)
    if found["path"].endswith(("/*", "/**")):  # what is in a directory, not the directory
        pattern = f"{pattern[:-1]}+"
    with suppress(re.error):
        return re.fullmatch(pattern, path) is not None
    return False
