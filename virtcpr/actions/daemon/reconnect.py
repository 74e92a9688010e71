"""Wait for libvirt's daemon after its start, and for the domains that it is to list."""

from __future__ import annotations

import time
from collections.abc import Mapping

from virtcpr.errors import HostError, Unsettled
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process

SECONDS = 60.0


def reconnect(uri: str | None) -> Connection:
    """The daemon, as soon as it answers.  Raises HostError after ``SECONDS``."""
    deadline = time.monotonic() + SECONDS
    while True:
        try:
            return Connection(uri)
        except HostError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def await_listed(connection: Connection, guests: Mapping[str, Process]) -> None:
    """Wait until the daemon lists all of them (UUID → new QEMU) as running; not for one whose QEMU has ended.

    Raises Unsettled naming those that it doesn't list.
    """
    deadline = time.monotonic() + SECONDS
    while missing := {uuid for uuid, process in guests.items() if process.alive()} - {
        domain.uuid for domain in connection.domains(running=True)
    }:
        if time.monotonic() > deadline:
            raise Unsettled(
                f"libvirt doesn't list {', '.join(sorted(missing))} as running after the swap",
                hint="the QEMU processes may still run: do not start these domains; look into the daemon's log",
            )
        time.sleep(0.01)
