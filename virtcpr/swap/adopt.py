"""libvirt takes the result: see that the daemon manages each guest in its new process, as the domain it was."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from virtcpr.domain import qmp
from virtcpr.domain.facts import DomainFacts
from virtcpr.domain.live import differences
from virtcpr.errors import HostError, Unsettled
from virtcpr.host.libvirt import Connection, Domain
from virtcpr.host.proc import Process, owner_of_thread

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


def verify(domain: Domain, before: DomainFacts, pid: int) -> Iterator[str]:
    """What isn't as it was, or as it must be, after adoption; nothing where all is well."""
    if domain.id != before.id:
        yield f"the domain's id changed from {before.id} to {domain.id}"
    state, reason = domain.state()  # waits for the daemon's own reconnect job
    if state != before.state:
        yield f"libvirt says that the domain is {state} ({reason}), it was {before.state}"
    threads = qmp.threads(domain.monitor("query-cpus-fast"))
    found = {owner_of_thread(thread) for thread in threads.values()}
    if found != {pid}:
        yield f"libvirt talks to another process than {pid}"
    changed = differences(before.xml, domain.xml())
    if changed:
        yield "the live XML changed: " + "; ".join(changed)
