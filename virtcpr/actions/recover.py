"""``recover``: settle interrupted swaps, then interrupted saves and restores, which need the daemon."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext

from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.records import pending, pending_strips
from virtcpr.actions.transfer import settle_all
from virtcpr.errors import HostError
from virtcpr.host.libvirt.connection import Connection
from virtcpr.host.processes.interrupt import Unstopped
from virtcpr.host.system.lock import Lock
from virtcpr.host.system.paths import PATHS, refuse_others
from virtcpr.model import ExitCode, Recovered, RecoverReport, Settled

log = logging.getLogger(__name__)


def recover(
    names: tuple[str, ...],
    *,
    uri: str | None = None,
    dry_run: bool = False,
    start_daemon: bool = True,
    wait: bool = False,
) -> RecoverReport:
    """Settle the interrupted actions of these domains (names, ids or UUIDs), of all domains if empty.

    ``start_daemon`` is False in libvirt's hook, while the daemon starts: then only settle what needs it down.  With
    ``wait``, wait for another running virtcpr.  Afterwards each guest has at most one owner, and libvirt's record names
    it.  Raises HostError if the host isn't ready, UsageError for a domain that nobody knows; a failure for one domain
    doesn't stop the others.
    """
    refuse_others(uri)
    if os.geteuid() != 0 and not PATHS.run.is_dir():  # this user never upgraded a session domain
        raise HostError("only root can settle swaps", hint="run it with sudo")
    if not start_daemon and settle_all.daemon_runs():
        # Every daemon of libvirt's calls the hook when it starts (remote_daemon.c, main()), virtnetworkd, too.
        return _report((), dry_run=dry_run)
    names = _known(names, uri)
    # libvirt's hook doesn't act while the lock is held.
    with nullcontext() if dry_run else Lock(wait=wait), Unstopped():
        swaps = settle_all.settle_all(names, dry_run=dry_run, start_daemon=start_daemon, guarded=not wait)
        if start_daemon:
            return _report((*swaps, *settle.settle_all(names, dry_run=dry_run)), dry_run=dry_run)
        for problem in strip.strip_records(pending_strips.noted()):
            log.warning("%s", problem)
        return _report(swaps, dry_run=dry_run)


def _known(names: tuple[str, ...], uri: str | None) -> tuple[str, ...]:
    """The same domains, by words that records have: else a misspelt name would look as if its guest were well.

    Raises UsageError for one that libvirt doesn't know either, HostError if it can't be asked.
    """
    if not names:
        return names
    interrupted = pending.domains()
    words = {*interrupted, *interrupted.values()}
    unknown = [word for word in names if word not in words]
    if not unknown or not interrupted:
        return names
    if not settle_all.daemon_runs():  # connecting may start it, and swaps are settled before that
        raise HostError(
            f"{', '.join(unknown)}: nothing was interrupted under this name, but for "
            f"{', '.join(sorted(name or uuid for uuid, name in interrupted.items()))}, and libvirt's daemon doesn't "
            "run, which could say whose it is; nothing was done",
            hint="virtcpr recover --all",
        )
    with Connection(uri) as connection:
        return tuple(connection.lookup(word).uuid if word in unknown else word for word in names)


def _report(domains: tuple[Recovered, ...], *, dry_run: bool) -> RecoverReport:
    ends = {domain.settled for domain in domains}
    code = ExitCode.DONE
    if not dry_run:
        code = ExitCode.FAILED if Settled.LOST in ends else code
        code = ExitCode.UNKNOWN if Settled.UNKNOWN in ends else code
    return RecoverReport(domains, code, dry_run=dry_run)
