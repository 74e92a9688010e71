"""A deadlock of libvirt's daemon in its own shutdown.

``libvirtd`` ends its node device driver by joining a thread while it holds the lock that this thread needs to end (seen
in libvirt 11.3: nodeStateShutdownWait, src/node_device/node_device_udev.c).  This race happens in one stop of twenty.
After 30 s the daemon exits anyway (src/rpc/virnetdaemon.c, the finish timer): all of its workers have ended long
before, and no thread writes any more.  virtcpr kills it at once instead: until the next daemon is up, no guest can be
managed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from virtcpr.host.processes.proc import Process

log = logging.getLogger(__name__)

HUNG_SECONDS = 1.0  # without any change in its threads
POLL = 0.2  # s between two checks
JOINS, JOINED = "daemon-shutdown", "udev-event"
# Threads of glib's, and one per guest's monitor, which only hands on to workers.  No worker may be left.
IDLE = frozenset({"pool-spawner", "gmain", "gdbus", JOINS, JOINED})
OF_A_GUEST = "vm-"


@dataclass(frozen=True)
class Thread:
    tid: int
    name: str
    state: str
    waits_in: str  # the kernel's function
    ticks: str  # processor time that it has used


@contextmanager
def broken(process: Process) -> Iterator[None]:
    """While entered, kill the daemon if it hangs in this deadlock; it has been asked to end before.

    Its supervisor must be stopping it: a daemon that is only killed would be started again.
    """
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(process, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


def _watch(process: Process, over: threading.Event) -> None:
    last, since = None, time.monotonic()
    while not over.wait(POLL):
        now = threads(process)
        if now != last or not hangs(now):
            last, since = now, time.monotonic()
        elif time.monotonic() - since >= HUNG_SECONDS:
            log.info("libvirt's daemon (process %d) hangs in its shutdown: killing it", process.pid)
            process.kill(0)
            return


def threads(process: Process) -> frozenset[Thread]:
    """All threads of the process; empty if it has ended."""
    records = []
    with suppress(OSError):
        for task in (process.path / "task").iterdir():
            with suppress(OSError):  # the thread may end meanwhile
                name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
                fields = rest.split()
                ticks = " ".join(fields[11:13])
                records.append(Thread(int(task.name), name, fields[0], (task / "wchan").read_text(), ticks))
    return frozenset(records)


def hangs(threads: frozenset[Thread]) -> bool:
    """Whether these threads are those of a daemon that joins a thread which can't end."""
    named = {thread.name: thread for thread in threads}
    if JOINS not in named or JOINED not in named or not named[JOINED].waits_in.startswith("futex"):
        return False
    leader = min(threads, key=lambda thread: thread.tid)
    others = {thread.name for thread in threads - {leader} if not thread.name.startswith(OF_A_GUEST)}
    return others <= IDLE and all(thread.state == "S" for thread in threads)
