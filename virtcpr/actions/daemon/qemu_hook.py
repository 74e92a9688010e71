"""libvirt's `qemu` hook: without it libvirt would start a saved domain afresh, or with blank RAM."""

from __future__ import annotations

import logging
import os
import time

from virtcpr.actions.daemon import blackout
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import Process, lock_owner, running_since

log = logging.getLogger(__name__)

NAME = "libvirt-qemu"


def ready(connection: Connection) -> Connection:
    """See that the hook is in its place, and that the daemon which runs knows of it.

    It looks for hooks when it starts (virHookInitialize), so it is started again where ours is newer; the connection to
    it.  Raises HostError where that can't be.
    """
    hooks.put(NAME)
    pid = lock_owner(daemon.DRIVER_PID)
    placed = os.stat(hooks.DIRECTORY / hooks.PLACES[NAME]).st_ctime
    if pid is None or running_since(Process.of(pid)) > placed:
        return connection
    log.info("libvirt's daemon is started again, to find virtcpr's hook")
    begun = time.monotonic()
    try:
        connection, _ = blackout.during(connection, lambda: None, {})
    except HostError as error:
        raise HostError(
            f"{error.message}; it must be started again, to find virtcpr's hook", hint=error.hint
        ) from error
    log.info("libvirt's daemon was away for %.1f s", time.monotonic() - begun)
    return connection
