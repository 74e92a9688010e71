"""Take out of libvirt's records what made restored domains wait for their state (``-incoming defer``).

The daemon must be down.  A start during which the daemon died is dropped: its record names process 0, and the
next daemon would wait for that process's monitor for ever, with a job that nobody can end (qemuProcessReconnect).  The
guest is still in its file then.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from virtcpr.actions.daemon import blackout, reconnect
from virtcpr.actions.reboot import guest
from virtcpr.actions.records import pending_strips
from virtcpr.actions.records.pending_strips import Note
from virtcpr.domain import restart
from virtcpr.domain.restart import WAITING
from virtcpr.domain.status import StatusFile, read
from virtcpr.errors import HostError, ParseError, Unsettled, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import read_text, replace_durably
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process, with_options
from virtcpr.model import AWAY, BACK, ExitCode, Progress, Watch

STAYS = "the live XML still has '-incoming defer'"
REMEDY = "virtcpr recover --all takes it out"


@dataclass(frozen=True)
class Stripped:
    """``connection``: the one after it; ``blackout_ms`` None: there was no blackout; ``problems``: what wasn't done.

    ``down``: libvirt's daemon couldn't be started again, or doesn't have all of the guests.
    """

    connection: Connection
    blackout_ms: float | None = None
    problems: tuple[str, ...] = ()
    down: bool = False

    @property
    def codes(self) -> list[ExitCode]:
        """What it means for the exit code, whatever became of the domains."""
        return [ExitCode.UNKNOWN] if self.down else []


def strip_in_blackout(connection: Connection, guests: Mapping[str, Process], watch: Watch = lambda _: None) -> Stripped:
    """Strip all noted records in a short blackout; the daemon has these guests (UUID → QEMU) afterwards.

    What could not be done isn't raised: the guests run, and libvirt's hooks keep the rest from doing harm until it is
    stripped.
    """
    problems: list[str] = []

    def rewrite() -> None:
        watch(Progress("", AWAY))
        problems.extend(strip_records(notes))

    try:
        notes = pending_strips.noted()
        if not notes:
            return Stripped(connection)
        if not connection.alive():  # its daemon died while the guests were restored
            connection = reconnect.reconnect(connection.uri)
        connection, took = blackout.during(connection, rewrite, guests, stuck_starts(notes))
        watch(Progress("", BACK))
    except (blackout.DaemonDown, Unsettled) as error:
        return Stripped(connection, problems=(f"{STAYS}: {error}: {error.hint}",), down=True)
    except (VirtcprError, OSError) as error:
        return Stripped(connection, problems=(f"{STAYS}: {error}",))
    return Stripped(connection, took, tuple(problems))


def strip_records(notes: list[Note]) -> list[str]:
    """Strip libvirt's status files; the daemon must be down.  Returns what could not be done, as texts.

    A start during which the daemon died is dropped.
    """
    problems = []
    for note in notes:
        path = Path(note.status_path)
        try:
            if path.exists():
                text = read_text(path)
                status = read(text)
                ours = status.uuid == note.uuid and restart.waits(text)
                if ours and status.pid == 0:
                    _drop_stuck_start(note, status)
                elif ours:
                    replace_durably(path, restart.stripped(text, note.taints, sleeps=note.sleeps))
            pending_strips.drop(note)
        except (HostError, ParseError, OSError, ValueError) as error:
            problems.append(f"{note.name}: libvirt's record still has '-incoming defer': {error}")
    return problems


def stuck_starts(notes: Iterable[Note]) -> frozenset[str]:
    """The UUIDs of the starts that the daemon waits for, not of a domain that it is just starting itself."""
    return frozenset(note.uuid for note in notes if _stuck(note))


def _stuck(note: Note) -> bool:
    with suppress(HostError, ParseError, OSError, ValueError):
        status = read(read_text(Path(note.status_path)))
        # The daemon writes its pid file when it starts, before it reads any record (virPidFileAcquirePathFull).
        older = os.stat(note.status_path).st_mtime_ns < os.stat(daemon.DRIVER_PID).st_mtime_ns
        return (status.uuid, status.pid) == (note.uuid, 0) and older
    return False


def _drop_stuck_start(note: Note, status: StatusFile) -> None:
    """End the start's QEMU, if any, which waits for its state and whose monitor nobody knows; then forget the start.

    The daemon must be down.  Raises HostError if its process doesn't end, or if there is a process older than the
    start, or maybe older: a guest that was restored once keeps these options for ever.  The record stays then.
    """
    for process in with_options([("-uuid", note.uuid), WAITING]):
        if not note.since:
            raise HostError(
                f"process {process.pid} waits for a state, but it isn't known when this start began: the process may "
                "be older, and have the guest"
            )
        if int(process.started) < note.since:
            raise HostError(f"process {process.pid} is older than this start, and may have the guest")
        if not process.kill(guest.END_SECONDS):
            raise HostError(f"process {process.pid} was killed, and isn't gone after {guest.END_SECONDS:g} s")
    path = Path(note.status_path)
    if note.ram:
        for directory in Path(note.ram).glob(f"{status.id}-*"):
            if note.name.startswith(directory.name.removeprefix(f"{status.id}-")):  # libvirt cuts long names short
                ram_files.remove_directory(str(directory))
    path.with_suffix(".pid").unlink(missing_ok=True)
    path.unlink(missing_ok=True)
