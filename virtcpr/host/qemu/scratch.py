"""A QEMU of our own, asked or tried out and thrown away; it never outlives this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from virtcpr.errors import HostError, QmpError
from virtcpr.host.files.atomic import make_private
from virtcpr.host.processes.proc import User
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.host.system.wait import wait_until_async

MONITOR = "virtcpr"
DYING_SECONDS = 2.0
LEAVING_SECONDS = 0.2


@dataclass(frozen=True)
class Directory:
    """A directory that two scratch QEMUs find each other in, by a descriptor: its parent is closed to them."""

    fd: int

    def path(self, name: str) -> str:
        """A path that holds in this process and in every one that inherits the descriptor."""
        return f"/proc/self/fd/{self.fd}/{name}"


@contextlib.contextmanager
def directory(user: User) -> Iterator[Directory]:
    """An empty directory of this user's, which goes with all that is in it.  Raises HostError where none can be made.

    Errors of the body are the body's: a time-out is an OSError, too.
    """
    with contextlib.ExitStack() as held:
        try:
            make_private(RUN_DIR)
            path = held.enter_context(tempfile.TemporaryDirectory(prefix="scratch-", dir=RUN_DIR))
            os.chown(path, user.uid, user.gid)
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise HostError(f"no scratch directory can be made in {RUN_DIR}: {error.strerror}") from error
        held.callback(os.close, fd)
        yield Directory(fd)


class Scratch:
    """Such a process.  ``async with`` ends it; the errors that it told are in ``words`` then."""

    def __init__(self, program: str, process: asyncio.subprocess.Process, ours: socket.socket) -> None:
        self.program = program
        self.process = process
        self.words: tuple[str, ...] = ()
        self._ours = ours
        self._monitor: Monitor | None = None

    @classmethod
    async def start(
        cls, program: str, options: Sequence[str], *, user: User | None = None, fds: Sequence[int] = ()
    ) -> Scratch:
        """Run a QEMU with these options and a monitor of ours, as ``user``, with the descriptors ``fds``.

        One that can't be run has ended at once, and ``words`` say why.  Raises HostError where nothing can be.
        """
        ours, theirs = socket.socketpair()
        monitor = ["-chardev", f"socket,id={MONITOR},fd={theirs.fileno()}", "-mon", f"chardev={MONITOR},mode=control"]
        # setpriv (util-linux) sets the death signal last, when no change of ids takes it away any more.
        command = ["setpriv", "--pdeathsig", "KILL", *_ids(user), "--", program, *options, *monitor]
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                pass_fds=[theirs.fileno(), *fds],
                cwd="/",
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            )
        except OSError as error:
            ours.close()
            raise HostError(f"{command[0]} can't be run: {error.strerror}") from error
        finally:
            theirs.close()
        return cls(program, process, ours)

    async def monitor(self, timeout: float) -> Monitor:
        """Its monitor, the same one at every call.  Raises QmpError where it doesn't answer in ``timeout`` seconds."""
        if self._monitor is None:
            self._monitor = await Monitor.connect(self._ours, "scratch QEMU", timeout=timeout)
        return self._monitor

    async def listens(self, path: str, timeout: float) -> bool:
        """Wait until it has made this socket; False where it ended or took more than ``timeout`` seconds."""

        async def settled() -> bool:  # a socket's birth has no event that is told everywhere
            return os.path.exists(path) or self.process.returncode is not None

        await wait_until_async(settled, timeout)
        return os.path.exists(path)

    async def gave_up(self) -> bool:
        """Whether it has ended by itself, with an error, or does so in an instant: its monitor goes before itself."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), LEAVING_SECONDS)
        return (self.process.returncode or 0) > 0

    async def end(self) -> None:
        """Kill it and read what it said, in ``DYING_SECONDS`` at most; a second time does nothing."""
        if self._monitor is not None:
            await self._monitor.close()
        self._ours.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # with what it has started: it may be a script
                os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.stderr is not None
        with contextlib.suppress(TimeoutError, QmpError):
            async with asyncio.timeout(DYING_SECONDS):
                lines = (await self.process.stderr.read()).decode(errors="replace").splitlines()
                self.words = self.words or tuple(self._errors(lines))
                await self.process.wait()

    def _errors(self, lines: list[str]) -> Iterator[str]:
        """What isn't a warning, without the name of who says it."""
        for line in lines:
            who, _, words = line.partition(": ")
            named = who in ("setpriv", self.program, os.path.basename(self.program))
            if "warning: " not in line and line.strip():
                yield words if named else line

    async def __aenter__(self) -> Scratch:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.end()


def as_user(user: User | None) -> list[str]:
    """What stands before a command to run it as somebody; nothing for None."""
    return ["setpriv", *_ids(user), "--"] if user else []


def _ids(user: User | None) -> list[str]:
    if user is None or os.geteuid() != 0:  # it is this user's own
        return []
    groups = ["--groups", ",".join(map(str, user.groups))] if user.groups else ["--clear-groups"]
    return [f"--reuid={user.uid}", f"--regid={user.gid}", *groups]
