"""The guardian: if virtcpr dies while it moves guests, settle the swaps and start libvirt's daemon again if it is down.

virtcpr starts it before the first new QEMU (``host.processes.guard``) and stops it afterwards.  It only acts if virtcpr
dies.
Running it late or twice is harmless: a settled swap has no journal, and a running daemon isn't started.

usage: python -I -m virtcpr.actions.guardian PID STARTED
"""

from __future__ import annotations

import logging
import os
import select
import sys
from contextlib import ExitStack, suppress

from virtcpr.errors import HostError
from virtcpr.host.libvirt.daemon import DriverLock
from virtcpr.host.processes import guard, outlive
from virtcpr.host.processes.proc import Gone, Process
from virtcpr.host.report import sd_notify
from virtcpr.host.system.lock import Lock


def main(pid: str, started: str) -> int:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        watched = Process(int(pid), started).open()
    except Gone:
        watched = None
    sd_notify.ready()
    print(outlive.READY, flush=True)
    with ExitStack() as held:
        if watched is not None:
            _watch(watched, held)
            os.close(watched)
        return settle_and_start_daemon()


def _watch(watched: int, held: ExitStack) -> None:
    """Wait until the process ends.  On its request, take the driver's lock into ``held``: the lock outlives the
    process, and settling takes it over."""
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if watched in ready:
            return
        word = sys.stdin.readline().strip()
        if not word:  # end of file: stdin of a systemd unit
            poll.unregister(sys.stdin)
        elif word == guard.LOCK:
            print(_locked(held), flush=True)
        elif word == guard.UNLOCK:
            held.close()
            print(guard.UNLOCKED, flush=True)


def _locked(held: ExitStack) -> str:
    try:
        held.enter_context(DriverLock())
    except (HostError, OSError) as error:
        return str(error)
    return guard.LOCKED


def settle_and_start_daemon() -> int:
    """Settle what is in the journal, then make sure that the daemon runs.  A failure doesn't stop the next step."""
    from virtcpr.actions.daemon import blackout
    from virtcpr.actions.recover import recover

    code = 0
    try:
        try:
            report = recover((), wait=True)
        except HostError:  # the daemon was just starting: it can be stopped now
            report = recover((), wait=True)
        for domain in report.domains:
            _say(f"{domain.name or domain.uuid}: {domain.settled.value}: {domain.text}")
        code = int(report.exit_code)
    except Exception as error:  # any failure: the daemon must still start
        _say(f"error: {error}")
        code = 1
    try:
        with Lock(wait=True):  # another run that is at work starts it by itself
            blackout.start_if_stopped()
    except (HostError, OSError) as error:
        _say(f"error: {error}")
        code = 1
    return code


def _say(text: str) -> None:
    """To the journal under systemd, else to virtcpr's stderr, whose reader may be dead, too."""
    with suppress(OSError):
        print(f"virtcpr: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
