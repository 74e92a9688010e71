"""libvirt's `qemu` hook: without it, libvirt would boot a saved domain, or start it with blank RAM."""

from __future__ import annotations

import logging
import os
import time

from virtcpr.actions.daemon import blackout
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.proc import running_since

log = logging.getLogger(__name__)

NAME = "libvirt-qemu"


def ready(connection: Connection, *, required: bool = True) -> Connection:
    """Install the hook, and restart a daemon that doesn't know it.  Returns the connection to the daemon.

    The daemon looks for hooks only when it starts (virHookInitialize).  ``required``: don't stop the daemon without a
    guardian.  Raises HostError if the hook can't be installed, or the daemon can't be restarted; DaemonDown if it is
    away then.
    """
    if (running := daemon.process()) is not None:
        hooks.refuse_forbidden(running)  # one that is there already
    hooks.put(NAME)
    placed = os.stat(hooks.DIRECTORY / hooks.PLACES[NAME]).st_ctime
    if running is None or running_since(running) > placed:
        return connection
    log.info("restarting libvirt's daemon, so that it finds virtcpr's hook")
    begun = time.monotonic()
    try:
        connection, _ = blackout.during(connection, lambda: None, {}, required=required)
    except HostError as error:
        kind = blackout.DaemonDown if isinstance(error, blackout.DaemonDown) else HostError
        raise kind(f"{error.message}; it must be restarted to find virtcpr's hook", hint=error.hint) from error
    log.info("libvirt's daemon was down for %.1f s", time.monotonic() - begun)
    return connection
