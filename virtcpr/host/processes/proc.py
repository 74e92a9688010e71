"""Processes as ``/proc`` and pidfds show them: identity, descriptors, threads, and a safe way to end a process."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
import signal
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from virtcpr.errors import HostError
from virtcpr.host.system.wait import readable, wait_until

SYS_PIDFD_GETFD = 438  # the same on every architecture (Linux, include/uapi/asm-generic/unistd.h)
OLD_MODULES = Path("/run/qemu")
IDS = ("Uid", "Gid", "Groups")
PF_EXITING = 0x4  # include/linux/sched.h; in the flags of proc_pid_stat(5)
# What the kernel may take to unmap a killed process's memory, per GiB: 0.08 s was seen on an idle machine, 3 on a busy.
EXIT_SECONDS_PER_GIB = 5.0


class Gone(HostError):
    """The process has ended."""


@dataclass(frozen=True)
class User:
    """The user that a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...] = ()


@dataclass(frozen=True)
class Process:
    """A process by pid and start time (clock ticks since boot): never a later process with the same pid."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this pid now.  Raises HostError if there is none."""
        try:
            return cls(pid, _stat(pid)[19])
        except OSError as error:
            raise HostError(f"process {pid} is gone") from error

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.pid}")

    def alive(self) -> bool:
        """Whether it can still run anything.

        A zombie can't, nor can a process that was killed and gives its memory back.  That takes a second and more for
        a big guest, and until it is over the process keeps its descriptors (Linux, do_exit: exit_mm before exit_files).
        """
        try:
            leader = _stat(self.pid)
            if leader[19] != self.started or leader[0] == "X":
                return False
            # One look where it runs: this is asked in a guest's pause, and a process may have hundreds of threads.
            return not _exits(leader) or any(_runs(task) for task in self._tasks())
        except (FileNotFoundError, ProcessLookupError):
            return False

    def there(self) -> bool:
        """Whether it holds anything still: memory, descriptors, locks.  An unreaped zombie doesn't."""
        try:
            fields = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        # A leader that has ended is a zombie as long as it has other threads.
        return fields[19] == self.started and (fields[0] not in "ZX" or int(fields[17]) > 1)

    def open(self) -> int:
        """A pidfd of this very process, which may be about to end.

        Raises Gone if it holds nothing any more, HostError if it can't be opened.
        """
        try:
            pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError as error:
            raise Gone(f"process {self.pid} is gone") from error
        except OSError as error:
            if not self.there():  # the number may be a thread's by now: ENOENT or EINVAL, by the kernel's release
                raise Gone(f"process {self.pid} is gone") from error
            raise HostError(f"process {self.pid} can't be opened: {error.strerror}") from error
        if not self.there():  # checked after opening: now the pidfd can't belong to another process
            os.close(pidfd)
            raise Gone(f"process {self.pid} is gone")
        return pidfd

    def ends(self, timeout: float) -> bool:
        """Wait until it isn't ``alive``, ``timeout`` seconds at most; whether it ended."""
        return wait_until(lambda: not self.alive(), timeout)  # the kernel tells only when it is gone

    def goes(self, timeout: float) -> bool:
        """Wait until all that it held is gone, ``timeout`` seconds and as long as its memory takes at most; whether
        it is."""
        try:
            pidfd = self.open()
        except HostError:
            return not self.there()
        try:
            return readable(pidfd, timeout + self._exit_seconds())
        finally:
            os.close(pidfd)

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it is gone.  Raises HostError if it can't be reached."""
        with contextlib.suppress(Gone, ProcessLookupError):
            pidfd = self.open()
            try:
                signal.pidfd_send_signal(pidfd, number)
            finally:
                os.close(pidfd)

    def kill(self, timeout: float, *, gone: bool = True) -> bool:
        """SIGKILL it and wait until it is gone, ``timeout`` seconds and as long as its memory takes at most.

        Without ``gone``, only until it can't run any more: it may keep its descriptors and locks for a while.  Returns
        whether that came to pass.  Raises HostError if the process can't be reached at all.
        """
        try:
            pidfd = self.open()
        except Gone:
            return True
        try:
            seconds = timeout + self._exit_seconds()
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            return readable(pidfd, seconds) if gone else self.ends(timeout)
        except ProcessLookupError:
            return True
        finally:
            os.close(pidfd)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, os.WNOHANG)

    def _exit_seconds(self) -> float:
        """What its end may take for its memory's sake."""
        with contextlib.suppress(OSError):
            pages = int((self.path / "statm").read_text().split()[1])
            return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 30) * EXIT_SECONDS_PER_GIB
        return 0.0

    def _tasks(self) -> Iterator[Path]:
        return (self.path / "task").iterdir()

    def clone_fd(self, number: int) -> int:
        """Duplicate one of its descriptors into this process (pidfd_getfd(2)); close-on-exec.

        Raises HostError if it has no such descriptor or may not be inspected.
        """
        pidfd = self.open()
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            clone: int = libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
            if clone < 0:
                reason = os.strerror(ctypes.get_errno())
                raise HostError(f"descriptor {number} of process {self.pid} can't be cloned: {reason}")
            return clone
        finally:
            os.close(pidfd)

    def argv(self) -> tuple[str, ...]:
        """Raises OSError if it is gone, or is ending: its command line goes with its memory."""
        words = (self.path / "cmdline").read_bytes().split(b"\0")[:-1]
        if not words:
            raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH), str(self.path / "cmdline"))
        return tuple(map(os.fsdecode, words))

    def children(self) -> tuple[Process, ...]:
        """The processes that its threads have started, and that are there still."""
        pids: list[str] = []
        with contextlib.suppress(OSError):
            for task in self._tasks():
                pids += (task / "children").read_text().split()
        found = []
        for pid in pids:
            with contextlib.suppress(HostError):
                found.append(Process.of(int(pid)))
        return tuple(found) if self.there() else ()  # asked last: now they can't be those of a later process

    def user(self) -> User:
        """Raises OSError if it is gone."""
        lines = (line.partition(":") for line in (self.path / "status").read_text(errors="replace").splitlines())
        ids = {name: [int(word) for word in value.split()] for name, _, value in lines if name in IDS}
        return User(ids["Uid"][0], ids["Gid"][0], tuple(ids["Groups"]))

    def tasks(self) -> frozenset[int]:
        try:
            return frozenset(int(task.name) for task in self._tasks())
        except OSError:
            return frozenset()

    def fd_targets(self) -> dict[int, str]:
        """Descriptor → target of its link."""
        targets = {}
        for link in (self.path / "fd").iterdir():
            with contextlib.suppress(OSError):
                targets[int(link.name)] = str(link.readlink())
        return targets


def _stat(pid: int) -> list[str]:
    return _stat_of(Path(f"/proc/{pid}"))


def _stat_of(task: Path) -> list[str]:
    """The fields of a process's or a thread's stat from the state on (field 3); the name before may hold anything."""
    return (task / "stat").read_text(errors="surrogateescape").rpartition(")")[2].split()


def _runs(task: Path) -> bool:
    try:
        return not _exits(_stat_of(task))
    except (FileNotFoundError, ProcessLookupError):
        return False


def _exits(fields: Sequence[str]) -> bool:
    """Whether a thread, by its ``stat``, has ended or is on its way out: it runs nothing of its program any more."""
    return fields[0] in "ZX" or bool(int(fields[6]) & PF_EXITING)


def running_since(process: Process) -> float:
    """When it was started, in seconds of the host's present clock, to a tick (10 ms; proc(5))."""
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return int(boot.split()[1]) + int(process.started) / os.sysconf("SC_CLK_TCK")


def age(process: Process) -> float:
    """Seconds since it was started."""
    return (ticks_since_boot() - int(process.started)) / os.sysconf("SC_CLK_TCK")


def ticks_since_boot() -> int:
    """Now, in the unit of a process's start time (proc_pid_stat(5), starttime)."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def taps(process: Process, targets: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Interface → the descriptors of its queues, in ascending order.

    A tap's name is in fdinfo (``iff:``, drivers/net/tun.c); a macvtap's device is named after the interface's number.
    """
    queues: dict[str, list[int]] = {}
    for number, target in sorted(targets.items()):
        name = _macvtap(target) if target.startswith("/dev/tap") else ""
        if target == "/dev/net/tun":
            name = next(_values((process.path / "fdinfo" / str(number)).read_text(), "iff:"), "")
        if name:
            queues.setdefault(name, []).append(number)
    return {name: tuple(numbers) for name, numbers in queues.items()}


def _macvtap(device: str) -> str:
    """The interface behind /dev/tapN, or nothing."""
    number = device.removeprefix("/dev/tap")
    with contextlib.suppress(OSError, ValueError):
        return socket.if_indextoname(int(number))
    return ""


def _values(text: str, key: str) -> Iterator[str]:
    return (line.removeprefix(key).strip() for line in text.splitlines() if line.startswith(key))


def leaves(session: int) -> tuple[int, ...]:
    """The processes of a session that aren't the parent of another of its processes."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):  # it may end meanwhile
            fields = _stat(int(path.name))
            if int(fields[3]) == session:  # state, parent, group, session
                parents[int(path.name)] = int(fields[1])
    return tuple(sorted(parents.keys() - set(parents.values())))


def with_argv(argv: Sequence[str], *, other_than: int) -> Process | None:
    """A process with exactly this command line, other than ``other_than``, if there is one."""
    wanted = b"\0".join(os.fsencode(word) for word in argv) + b"\0"
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, HostError):
            if int(path.parent.name) != other_than and path.read_bytes() == wanted:
                return Process.of(int(path.parent.name))
    return None


def with_options(options: Collection[tuple[str, str]]) -> list[Process]:
    """The processes whose command lines have all of these options, each a name and its value."""
    processes = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, HostError):
            words = path.read_bytes().decode(errors="surrogateescape").split("\0")
            if set(options) <= set(pairwise(words)):
                processes.append(Process.of(int(path.parent.name)))
    return processes


def has_modules(process: Process, package: str) -> bool:
    """Whether QEMU still finds modules of its own build, also if it was replaced on disk."""
    return not os.readlink(process.path / "exe").endswith(" (deleted)") or old_modules(package) is not None


def old_modules(package: str) -> Path | None:
    """The modules of a QEMU that was replaced on disk; None if they are gone.

    QEMU looks in /run/qemu, in a directory named after its package's version, with other characters as underscores
    (util/module.c, module_load).  Not every package keeps the old modules there.
    """
    name = re.sub(r"[^A-Za-z0-9+\-.~]", "_", package).strip("_")
    kept = (path for path in OLD_MODULES.glob("*") if path.name.strip("_") == name and any(path.glob("*.so")))
    return next(kept, None)


def own_memory(process: Process) -> int:
    """KiB of memory that no file is behind, as shared RAM has one (proc_pid_status(5), RssAnon); 0 if unknown."""
    with contextlib.suppress(OSError, StopIteration):
        lines = (process.path / "status").read_text(errors="replace").splitlines()
        return int(next(line for line in lines if line.startswith("RssAnon:")).split()[1])
    return 0


def lock_owner(path: Path) -> int | None:
    """The process that holds a POSIX write lock on the first byte of a file, as libvirt's virPidFile takes it.

    What somebody else may have put in its place is neither followed nor waited for.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
            kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, query))
        finally:
            os.close(fd)
    except OSError:
        return None
    return pid if kind != fcntl.F_UNLCK else None


def pid_in(file: str) -> int:
    """The number in a pid file.  Raises OSError and ValueError.

    What somebody else may have put in its place is neither followed nor waited for.
    """
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)) as opened:
        return int(opened.read(16))


def owner_of_thread(thread: int) -> int:
    """The process that a thread belongs to, 0 if it is gone."""
    try:
        text = Path(f"/proc/{thread}/status").read_text(errors="replace")
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Tgid:"))
