"""``recover``: settle whatever was interrupted: first swaps, then saves and restores, for which the daemon must run."""

from __future__ import annotations

import logging
import os
from contextlib import nullcontext

from virtcpr.actions.reboot import settle, strip
from virtcpr.actions.records import pending_strips
from virtcpr.actions.transfer import settle_all
from virtcpr.errors import HostError
from virtcpr.host.system.lock import Lock
from virtcpr.host.system.paths import PATHS
from virtcpr.model import ExitCode, Recovered, RecoverReport, Settled

log = logging.getLogger(__name__)


def recover(
    names: tuple[str, ...], *, dry_run: bool = False, start_daemon: bool = True, wait: bool = False
) -> RecoverReport:
    """Settle what was interrupted of these domains (names or UUIDs), of all where none is named.

    In libvirt's own hook, where the daemon is just starting (``start_daemon`` False), only what needs it down.  Another
    virtcpr at work is waited for with ``wait``.  Afterwards each guest has one owner at most, and libvirt's record
    names it.  Raises HostError where the host isn't as it must be; what becomes of one domain never keeps another from
    being settled.
    """
    if os.geteuid() != 0 and not PATHS.run.is_dir():  # nor was anything of this user's own ever moved
        raise HostError("only root can settle swaps", hint="run it with sudo")
    with nullcontext() if dry_run else Lock(wait=wait):  # libvirt's hook leaves the daemon to whoever has the lock
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
