"""libvirt's QEMU daemon, whichever it is (libvirtd or virtqemud): stop it, keep it stopped, start it."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import write_private
from virtcpr.host.libvirt import deadlock
from virtcpr.host.processes.proc import Process, lock_owner
from virtcpr.host.processes.run import run
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.host.system.paths import PATHS

log = logging.getLogger(__name__)

_locks: list[DriverLock] = []  # by which this process holds driver.pid's lock

STATE_DIR = PATHS.status
DRIVER_PID = STATE_DIR / "driver.pid"
NAMES = ("libvirtd", "virtqemud")  # a distribution's wrapper may have more: .libvirtd-wrapped
STOPPING = RUN_DIR / "stopping"  # which daemon is being stopped, for whoever comes after a run that is killed
# Its own shutdown gives up after 30 s (src/rpc/virnetdaemon.c, the finish timer), and systemd after 90 s.  Guests keep
# running meanwhile.
STOP_SECONDS = 120.0
START_SECONDS = 60.0


class Daemon(Protocol):
    """The daemon that owns driver.pid."""

    name: str
    process: Process | None

    @property
    def recipe(self) -> dict[str, object]:
        """What ``from_recipe`` needs to start this daemon again, in another process."""
        ...

    def stop(self) -> None:
        """Stop it and everything that would start it again, and wait for its end.  Raises HostError."""

    def start(self) -> None:
        """Start what ``stop`` stopped.  Raises HostError."""


def running() -> Daemon:
    """The daemon whose QEMU driver runs on this host.

    It is the owner of driver.pid's lock (libvirt, src/qemu/qemu_driver.c, qemuStateInitialize).  Raises HostError
    if there is none.
    """
    pid = _holder()
    if pid is None:
        raise HostError(
            f"no daemon holds {DRIVER_PID}: libvirt's QEMU driver isn't running",
            hint="systemctl start libvirtd.socket, or virtqemud.socket",
        )
    process = Process.of(pid)
    try:
        name = (process.path / "comm").read_text(errors="replace").strip()
        if not any(one in name for one in NAMES):
            raise HostError(
                f"{DRIVER_PID} is held by process {pid} ({name}), which isn't libvirt's daemon",
                hint="if it is virtcpr's guardian, it starts the daemon when it is done: try again then",
            )
        if Path("/run/systemd/system").is_dir() and _main_pid(f"{name}.service") == pid:
            return SystemdDaemon.of(name, process)
        return PlainDaemon(name, process, process.argv(), _environment(process))
    except OSError as error:
        raise HostError(f"libvirt's daemon (process {pid}) has just ended", hint="try again") from error


def _holder() -> int | None:
    """Who holds driver.pid's lock; None if nobody does, or this process: to look would drop its lock, as closing any
    descriptor of the file does (fcntl(2), record locks)."""
    return None if _locks else lock_owner(DRIVER_PID)


def process() -> Process | None:
    """The process whose QEMU driver runs on this host; None if there is none."""
    pid = _holder()
    try:
        return None if pid is None else Process.of(pid)
    except HostError:  # it has just ended
        return None


def host_goes_down() -> bool:
    """Whether systemd shuts the host down; False without systemd.  (systemctl(1), is-system-running.)"""
    if not Path("/run/systemd/system").is_dir():
        return False
    path, name = "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
    try:
        state = run(["busctl", "get-property", "org.freedesktop.systemd1", path, name, "SystemState"])
    except HostError:
        return False
    return "stopping" in state


def note_stopping(process: Process) -> None:
    """Before a daemon is told to end.  Raises HostError."""
    write_private(STOPPING, f"{process.pid} {process.started}\n")


def stopping() -> Process | None:
    """The daemon, if it lives, that somebody began to stop: it may not have been told yet, or be about to end."""
    try:
        pid, started = STOPPING.read_text().split()
        process = Process(int(pid), started)
    except (OSError, ValueError):
        return None
    return process if process.alive() else None


def forget_stopping() -> None:
    with suppress(OSError):
        STOPPING.unlink(missing_ok=True)


def from_recipe(recipe: Mapping[str, object], process: Process | None = None) -> Daemon:
    """A daemon that another process has stopped, to be started, or with its ``process`` is stopping, to be stopped.

    Raises HostError for an invalid recipe.
    """
    match recipe:
        case {"name": str(name), "sockets": [*sockets]}:
            return SystemdDaemon(name, process, [str(socket) for socket in sockets])
        case {"name": str(name), "argv": [*argv], "environment": {**environment}}:
            return PlainDaemon(
                name, process, tuple(map(str, argv)), {str(key): str(value) for key, value in environment.items()}
            )
    raise HostError(f"how libvirt's daemon is started isn't known: {recipe}")


def _property(unit: str, name: str) -> str:
    return run(["systemctl", "show", "--property", name, "--value", unit]).strip()


def _main_pid(unit: str) -> int:
    return int(_property(unit, "MainPID") or 0)


@dataclass
class SystemdDaemon:
    """A systemd service, which its sockets start, too.  ``process`` is None if it is stopped."""

    name: str
    process: Process | None
    sockets: list[str]

    @classmethod
    def of(cls, name: str, process: Process) -> SystemdDaemon:
        triggers = _property(f"{name}.service", "TriggeredBy").split()
        return cls(name, process, [unit for unit in triggers if _property(unit, "ActiveState") == "active"])

    @property
    def service(self) -> str:
        return f"{self.name}.service"

    @property
    def recipe(self) -> dict[str, object]:
        return {"name": self.name, "sockets": self.sockets}

    def stop(self) -> None:
        """Stop sockets and service in one transaction.  ``ignore-dependencies`` keeps units that depend on the daemon
        running: libvirt-guests would end guests."""
        units = [*self.sockets, self.service]
        assert self.process is not None, "only a daemon that runs is stopped"
        try:
            with deadlock.broken(self.process):  # a unit that is being stopped isn't restarted
                run(["systemctl", "stop", "--job-mode=ignore-dependencies", *units], timeout=STOP_SECONDS)
        except HostError as error:
            raise HostError(
                f"libvirt's daemon ({self.service}) doesn't stop: {error.message}", hint=self._by_hand()
            ) from error
        _await_end(self.process)

    def start(self) -> None:
        with suppress(HostError):  # a start limit that earlier restarts used up must not keep the daemon down
            run(["systemctl", "reset-failed", *self.sockets, self.service])
        try:
            run(["systemctl", "start", *self.sockets, self.service], timeout=START_SECONDS)
        except HostError as error:
            raise HostError(
                f"libvirt's daemon ({self.service}) doesn't start: {error.message}", hint=self._by_hand()
            ) from error

    def _by_hand(self) -> str:
        """Stops the service in a separate command: the sockets refuse to start beside a running service."""
        units = " ".join([*self.sockets, self.service])
        steps = f"systemctl stop {self.service}; systemctl start {units}"
        return f"find the cause: journalctl -u {self.service}; then: {steps}"


@dataclass
class PlainDaemon:
    """A daemon without a supervisor: stopped by SIGTERM, started with its former command line and environment."""

    name: str
    process: Process | None
    argv: tuple[str, ...]
    environment: dict[str, str]

    @property
    def recipe(self) -> dict[str, object]:
        return {"name": self.name, "argv": list(self.argv), "environment": self.environment}

    def stop(self) -> None:
        assert self.process is not None, "only a daemon that runs is stopped"
        pidfd = self.process.open()
        try:
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        finally:
            os.close(pidfd)
        with deadlock.broken(self.process):
            _await_end(self.process)

    def start(self) -> None:
        log.debug("starting %s", self.argv)
        try:
            subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=self.environment,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"{self.argv[0]} can't be started: {error.strerror}") from error


def _environment(process: Process) -> dict[str, str]:
    pairs = (process.path / "environ").read_bytes().split(b"\0")
    split = (os.fsdecode(pair).partition("=") for pair in pairs if pair)
    return {name: value for name, _, value in split}


def _await_end(process: Process) -> None:
    """Wait until it is gone."""
    if not process.goes(STOP_SECONDS):
        raise HostError(f"libvirt's daemon (process {process.pid}) didn't end within {STOP_SECONDS:g} s")


@dataclass
class DriverLock:
    """The lock on driver.pid: while it is held, no daemon's QEMU driver can start (qemuStateInitialize fails).

    It is the process's: nested, the first that is left gives it up, for all of them.
    """

    fd: int = -1

    def __enter__(self) -> DriverLock:
        self.fd = os.open(DRIVER_PID, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            os.close(self.fd)
            owner = lock_owner(DRIVER_PID)
            raise HostError(f"libvirt's daemon was started again meanwhile (process {owner})") from error
        _locks.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if any(one is self for one in _locks):
            release()


def release() -> None:
    """Give the lock up, if this process holds it, whoever took it."""
    while _locks:
        os.close(_locks.pop().fd)
