"""``recover``: settle interrupted swaps, then interrupted saves and restores, which need the daemon."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext

from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.records import pending_strips
from virtcpr.actions.transfer import settle_all
from virtcpr.errors import HostError
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
    """Settle the interrupted actions of these domains (names or UUIDs), of all domains if empty.

    ``start_daemon`` is False in libvirt's hook, while the daemon starts: then only settle what needs it down.  With
    ``wait``, wait for another running virtcpr.  Afterwards each guest has at most one owner, and libvirt's record names
    it.  Raises HostError if the host isn't ready; a failure for one domain doesn't stop the others.
    """
    refuse_others(uri)
    if os.geteuid() != 0 and not PATHS.run.is_dir():  # this user never upgraded a session domain
        raise HostError("only root can settle swaps", hint="run it with sudo")
    with nullcontext() if dry_run else Lock(wait=wait):  # libvirt's hook doesn't act while the lock is held
        swaps = settle_all.settle_all(names, dry_run=dry_run, start_daemon=start_daemon, guarded=not wait)
        if start_daemon:
            return _report((*swaps, *settle.settle_all(names, dry_run=dry_run)), dry_run=dry_run)
        for problem in strip.strip_records(pending_strips.noted()):
            log.warning("%s", problem)
        return _report(swaps, dry_run=dry_run)


def _report(domains: tuple[Recovered, ...], *, dry_run: bool) -> RecoverReport:
    ends = {domain.settled for domain in domains}
    code = ExitCode.DONE
    if not dry_run:
        code = ExitCode.FAILED if Settled.LOST in ends else code
        code = ExitCode.UNKNOWN if Settled.UNKNOWN in ends else code
    return RecoverReport(domains, code, dry_run=dry_run)
