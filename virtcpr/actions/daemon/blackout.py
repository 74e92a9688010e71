"""The time in which libvirt's daemon is down, for something short that isn't a swap."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping

from virtcpr.actions.daemon import reconnect
from virtcpr.domain.status import read
from virtcpr.errors import HostError
from virtcpr.host.files.atomic import read_text
from virtcpr.host.libvirt import daemon
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.libvirt.daemon import DriverLock
from virtcpr.host.processes.proc import Process


def refuse_jobs(connection: Connection, stuck: Collection[str] = ()) -> None:
    """Stopping the daemon interrupts the jobs of all its domains.  Raises HostError where there is one.

    Those of ``stuck`` (UUIDs) have a job that only the daemon's end ends; one that has ended meanwhile has none.
    """
    for domain in connection.domains(running=True):
        if domain.uuid in stuck:
            continue
        try:
            busy = _job(domain)
        except HostError:
            if domain.active():
                raise
            continue
        if busy:
            raise HostError(f"libvirt is busy with {domain.name} ({busy}), and its daemon can't be stopped now")


def _job(domain: Domain) -> str:
    status = read(read_text(daemon.STATE_DIR / f"{domain.name}.xml"))
    return domain.job() or ", ".join(status.busy)


def during(
    connection: Connection, action: Callable[[], None], guests: Mapping[str, Process], stuck: Collection[str] = ()
) -> tuple[Connection, float]:
    """Do it while the daemon is down; see that it lists these guests (UUID → QEMU) again.

    The connection to the new daemon, and how long there was none, in ms.  Raises HostError where the daemon isn't to be
    stopped now, or doesn't come back.
    """
    refuse_jobs(connection, stuck)
    uri, running = connection.uri, daemon.running()
    connection.close()
    begun = time.monotonic()
    try:
        running.stop()
        with DriverLock():
            action()
    finally:
        running.start()
    connection = reconnect.reconnect(uri)
    reconnect.await_listed(connection, guests)
    return connection, round((time.monotonic() - begun) * 1000, 1)
