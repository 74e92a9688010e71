"""libvirt's record of a guest, and its sockets: reserve room, then give both to the new process."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from virtcpr.domain import qmp, shared_ram, status
from virtcpr.domain.sockets import beside
from virtcpr.errors import HostError, ParseError
from virtcpr.host.files import atomic
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.plan.guest import Guest

# libvirt and virsh open what the record names, as root: accept no path that QEMU makes up.
PTY = re.compile(r"pty:/dev/pts/[0-9]+")
RESERVE = 4096  # bytes that libvirt's record may grow by


async def write(guest: Guest, new: Monitor, process: Process) -> None:
    """Put new QEMU's sockets in the place of old's, which has ended, and write new into libvirt's status file and pid
    file.  Raises HostError; both files are whole then."""
    put_sockets(guest)
    ptys = {
        chardev.label.removeprefix("char"): chardev.filename.removeprefix("pty:")
        for chardev in qmp.chardevs(await new.execute("query-chardev"))
        if PTY.fullmatch(chardev.filename)
    }
    change = status.Successor(
        pid=process.pid,
        vcpus=qmp.threads(await new.execute("query-cpus-fast")),
        ptys=ptys,
        emulator=guest.emulator or None,
        taints=frozenset(guest.taints),
    )
    path = Path(guest.status_path)
    atomic.replace_durably(path, status.rewrite(text(guest), change))
    atomic.replace_durably(path.with_suffix(".pid"), f"{process.pid}\n")
    clean_up(guest)


def put_sockets(guest: Guest) -> None:
    """Rename new QEMU's sockets over old's; those that are renamed already stay.  Raises HostError."""
    for path in guest.listeners:
        try:
            os.rename(beside(path), path)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise HostError(f"new QEMU's socket can't be put at {path}: {error.strerror}") from error


def text(guest: Guest) -> str:
    """libvirt's record of the guest for new QEMU's, and with the RAM that new QEMU has; if it is gone or can't be
    read, the record from before the swap."""
    try:
        record = atomic.read_text(Path(guest.status_path))
        status.read(record)
    except (HostError, ParseError, ValueError):
        record = guest.status_xml
    return status.with_domain(record, shared_ram.readied) if guest.copied else record


def reserve(guest: Guest) -> None:
    """Reserve room for what ``write`` writes, before the guest is touched; the daemon runs.  Raises HostError."""
    path = Path(guest.status_path)
    atomic.reserve(path, len(guest.status_xml.encode()) + RESERVE)
    atomic.reserve(path.with_suffix(".pid"), RESERVE)


def clean_up(guest: Guest) -> None:
    """Remove what a swap needs beside the guest: sockets, reserved files."""
    with suppress(OSError):  # leftover sockets do no harm: the next swap removes them
        atomic.remove(*guest.sockets, guest.way_back, *map(beside, guest.listeners))
    for path in (Path(guest.status_path), Path(guest.status_path).with_suffix(".pid")):
        atomic.unreserve(path)
