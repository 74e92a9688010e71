"""Processes that a lab or a host is made of: known by pid and start time, held in a cgroup, ended together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tests.lab.support.kept import LabError

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


@dataclass(frozen=True)
class Process:
    """A process that a pid file names; the start time tells it from a later one of the same number."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, _start_time(pid))

    def alive(self) -> bool:
        try:
            return _start_time(self.pid) == self.started
        except OSError:
            return False


def _start_time(pid: int) -> str:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    if fields[0] == "Z":
        raise ProcessLookupError(pid)
    return fields[19]


def cgroup2() -> Path:
    """Where the host has its cgroup v2 tree."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split()
        if kind == "cgroup2":
            return Path(where)
    raise LabError("the host has no cgroup v2 mounted")


def end_all(cgroup: Path, seconds: float) -> None:
    """Kill everything in the cgroup and remove it; TimeoutError: a process doesn't end."""
    if not cgroup.is_dir():
        return
    (cgroup / "cgroup.kill").write_text("1")
    deadline = time.monotonic() + seconds
    while "populated 1" in (cgroup / "cgroup.events").read_text():
        if time.monotonic() > deadline:
            raise TimeoutError(cgroup)
        time.sleep(0.02)
    for directory, _, _ in os.walk(cgroup, topdown=False):
        os.rmdir(directory)


def environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("TERM", "COLUMNS", "LINES", "NO_COLOR") if name in os.environ}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    return {"PATH": path, "HOME": "/root", "LANG": "C.UTF-8", **kept}


def fork_forwarding() -> int:
    """Fork; the parent goes on with ``wait_forwarding``, and no signal reaches it before: one that ended it would leave
    the child alone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    child = os.fork()
    if child == 0:
        for number in FORWARDED:  # tests that are run in the background ignore some, and what they run would, too
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return child


def wait_forwarding(child: int) -> int:
    """Wait for a child of ``fork_forwarding``; its exit status, shell style.  Signals go on to it."""

    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
    return exit_status(os.waitpid(child, 0)[1])


def exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
