"""Wait for libvirt's daemon after its start, and for the domains that it must list."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from virtcpr.errors import HostError, Unsettled
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process
from virtcpr.host.system.wait import wait_until

SECONDS = 60.0
POLL = 0.01  # s between two tries


def reconnect(uri: str | None, before: Callable[[], object] = lambda: None) -> Connection:
    """Connect as soon as the daemon answers; ``before`` is called before each try.

    Raises the last try's HostError after ``SECONDS``; an exception of ``before`` at once.
    """
    deadline = time.monotonic() + SECONDS
    while True:
        before()
        try:
            return Connection(uri)
        except HostError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)


def unlisted(connection: Connection, guests: Mapping[str, Process]) -> frozenset[str]:
    """Wait until the daemon lists all of these guests (UUID → QEMU) as running; ``SECONDS`` at most.

    Returns the UUIDs of those that it doesn't list, although their QEMU is alive.  Raises HostError.
    """

    def look() -> frozenset[str]:
        alive = {uuid for uuid, process in guests.items() if process.alive()}
        return frozenset(alive - {domain.uuid for domain in connection.domains(running=True)})

    return wait_until(look, SECONDS, until=lambda missing: not missing, poll=POLL)


def await_listed(connection: Connection, guests: Mapping[str, Process]) -> None:
    """As ``unlisted``.  Raises Unsettled with the names of the guests that the daemon doesn't list."""
    if missing := unlisted(connection, guests):
        raise Unsettled(
            f"libvirt doesn't list {', '.join(sorted(missing))} as running after the swap",
            hint="the QEMU processes may still run: don't start these domains; read the daemon's log",
        )
