"""A short blackout in which what made restored domains wait goes out of libvirt's records."""

from __future__ import annotations

from collections.abc import Mapping

from virtcpr.actions.daemon import blackout
from virtcpr.actions.reboot import leftovers, stillborn
from virtcpr.actions.transfer import verify
from virtcpr.errors import VirtcprError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process

REMEDY = "virtcpr recover --all takes it out"


def strip(connection: Connection, guests: Mapping[str, Process]) -> tuple[Connection, float | None, list[str]]:
    """Do that for all that is noted; see that the daemon has these guests (UUID → QEMU) afterwards.

    The connection after it, the blackout in ms (None: there was none), and what could not be done.  Never raises for
    it: the guests run, and libvirt's hooks keep what is left over from harm until it is done.
    """
    notes, problems = leftovers.noted(), []
    if not notes:
        return connection, None, []
    try:
        if not connection.alive():  # its daemon died while the guests were on their way
            connection = verify.reconnect(connection.uri)
        connection, took = blackout.during(
            connection, lambda: problems.extend(leftovers.strip(notes)), guests, stillborn.stuck(notes)
        )
    except (VirtcprError, OSError) as error:
        return connection, None, [f"the live XML still has '-incoming defer': {error}"]
    return connection, took, problems
