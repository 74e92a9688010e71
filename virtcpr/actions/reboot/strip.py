"""Take out of libvirt's records what made restored domains wait for their state (``-incoming defer``).

The daemon must be down for that.  A start during which the daemon died is dropped: its record names process 0, and the
next daemon would wait for that process's monitor for ever, with a job that nobody can end (qemuProcessReconnect).  The
guest is still in its file then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from virtcpr.actions.daemon import blackout, reconnect
from virtcpr.actions.reboot import guest
from virtcpr.actions.records import pending_strips
from virtcpr.actions.records.pending_strips import Note
from virtcpr.domain import restart
from virtcpr.domain.restart import WAITING
from virtcpr.domain.status import StatusFile, read
from virtcpr.errors import HostError, ParseError, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import read_text, replace_durably
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process, with_options

REMEDY = "virtcpr recover --all takes it out"


def strip_in_blackout(
    connection: Connection, guests: Mapping[str, Process]
) -> tuple[Connection, float | None, list[str]]:
    """Take it out for all that is noted, in a short blackout; the daemon has these guests (UUID → QEMU) afterwards.

    The connection after it, the blackout in ms (None: there was none), and what could not be done.  Never raises for
    it: the guests run, and libvirt's hooks keep what is left over from harm until it is done.
    """
    problems: list[str] = []
    try:
        notes = pending_strips.noted()
        if not notes:
            return connection, None, []
        if not connection.alive():  # its daemon died while the guests were on their way
            connection = reconnect.reconnect(connection.uri)
        connection, took = blackout.during(
            connection, lambda: problems.extend(strip_records(notes)), guests, stuck_starts(notes)
        )
    except (VirtcprError, OSError) as error:
        return connection, None, [f"the live XML still has '-incoming defer': {error}"]
    return connection, took, problems


def strip_records(notes: list[Note]) -> list[str]:
    """Take it out of libvirt's status files; the daemon must be down.  What could not be done, as texts.

    Of a start that the daemon died in nothing is kept.
    """
    problems = []
    for one in notes:
        path = Path(one.status_path)
        try:
            if path.exists():
                text = read_text(path)
                status = read(text)
                ours = status.uuid == one.uuid and restart.waits(text)
                if ours and status.pid == 0:
                    _drop_stuck_start(one, status)
                elif ours:
                    replace_durably(path, restart.stripped(text, one.taints, sleeps=one.sleeps))
            pending_strips.drop(one)
        except (HostError, ParseError, OSError, ValueError) as error:
            problems.append(f"{one.name}: libvirt's record still has '-incoming defer': {error}")
    return problems


def stuck_starts(notes: Iterable[Note]) -> frozenset[str]:
    """The UUIDs of those that the daemon waits for: not of one that it is just starting itself."""
    return frozenset(one.uuid for one in notes if _stuck(one))


def _stuck(one: Note) -> bool:
    with suppress(HostError, ParseError, OSError, ValueError):
        status = read(read_text(Path(one.status_path)))
        # The daemon writes its own when it starts, before it reads any record (virPidFileAcquirePathFull).
        older = os.stat(one.status_path).st_mtime_ns < os.stat(daemon.DRIVER_PID).st_mtime_ns
        return (status.uuid, status.pid) == (one.uuid, 0) and older
    return False


def _drop_stuck_start(one: Note, status: StatusFile) -> None:
    """End what may be there of it, a QEMU that waits for its state and whose monitor nobody knows; then forget it.

    The daemon must be down.  Raises HostError where its process doesn't end, or where there is one that this start
    can't have made: a guest that was restored once has these options for ever.  The record is there then.
    """
    for process in with_options([("-uuid", one.uuid), WAITING]):
        if int(process.started) < one.since or not one.since:
            raise HostError(f"process {process.pid} was there before it was started, and may have the guest")
        if not process.kill(guest.END_SECONDS):
            raise HostError(f"process {process.pid} was killed, and isn't gone after {guest.END_SECONDS:g} s")
    path = Path(one.status_path)
    if one.ram:
        for directory in Path(one.ram).glob(f"{status.id}-*"):
            if one.name.startswith(directory.name.removeprefix(f"{status.id}-")):  # libvirt cuts long names short
                ram_files.remove_directory(str(directory))
    path.with_suffix(".pid").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
