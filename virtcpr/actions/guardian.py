"""The guardian: when virtcpr dies in the blackout, the swap is settled and libvirt's daemon starts again.

It is started before the blackout (``host.processes.guard``), does nothing while virtcpr lives, and is ended by it on
every other way out.  Late or twice it is harmless: a swap that is settled has no journal, and a daemon that runs isn't
started.

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
from virtcpr.host.processes import guard
from virtcpr.host.processes.proc import Gone, Process
from virtcpr.host.report import sd_notify


def main(pid: str, started: str) -> int:
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        watched = Process(int(pid), started).open()
    except Gone:
        watched = None
    sd_notify.ready()
    print(guard.READY, flush=True)
    with ExitStack() as held:
        if watched is not None:
            _watch(watched, held)
            os.close(watched)
        return settle_and_start_daemon()


def _watch(watched: int, held: ExitStack) -> None:
    """Until it ends.  On its word the driver's lock is taken, and what has it is in ``held``: it outlives its master,
    and settling takes it over."""
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(sys.stdin, select.POLLIN)
    while True:
        ready = [fd for fd, _ in poll.poll()]
        if watched in ready:
            return
        word = sys.stdin.readline().strip()
        if not word:  # a unit has nobody who speaks to it
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
    """Settle what the journal holds, then see that the daemon runs.  Whatever fails, the rest is tried."""
    from virtcpr.actions.recover import recover
    from virtcpr.host.libvirt import daemon

    code = 0
    try:
        try:
            report = recover((), wait=True)
        except HostError:  # somebody was just starting the daemon: it is stopped now
            report = recover((), wait=True)
        for domain in report.domains:
            _say(f"{domain.name or domain.uuid}: {domain.settled.value}: {domain.text}")
        code = int(report.exit_code)
    except Exception as error:  # whatever it is: the daemon comes next
        _say(f"error: {error}")
        code = 1
    try:
        daemon.running()
    except (HostError, OSError):
        daemon.from_recipe(guard.recipe() or {}).start()
    return code


def _say(text: str) -> None:
    """To the journal under systemd, else to what was virtcpr's stderr: its reader may have died along with it."""
    with suppress(OSError):
        print(f"virtcpr: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
