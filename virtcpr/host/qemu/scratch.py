"""A scratch QEMU, which is queried or tried out, then ended; it never outlives this process."""

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
from virtcpr.host.processes.sockets import listens
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.host.system.lock import RUN_DIR
from virtcpr.host.system.wait_async import wait_until_async

MONITOR = "virtcpr"
DYING_SECONDS = 2.0
LEAVING_SECONDS = 0.2


@dataclass(frozen=True)
class Directory:
    """A directory in which two scratch QEMUs meet.  They reach it by a descriptor: its parent is closed to them.

    ``prefix``: of every name in it, for two that meet where others met before.
    """

    fd: int
    prefix: str = ""

    def path(self, name: str) -> str:
        """A path that holds in this process and in every one that inherits the descriptor."""
        return f"/proc/self/fd/{self.fd}/{self.prefix}{name}"


@contextlib.contextmanager
def directory(user: User) -> Iterator[Directory]:
    """An empty directory that this user owns; it is removed afterwards.  Raises HostError if it can't be made.

    Errors of the body pass unchanged: a time-out is an OSError, too.
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
    """A scratch QEMU.  ``async with`` ends it; ``words`` then has the errors that it printed."""

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
        """Run a QEMU with these options and a monitor, as ``user``, with the descriptors ``fds``.

        If it can't be run, it ends at once, and ``words`` say why.  Raises HostError if setpriv can't be run.
        """
        ours, theirs = socket.socketpair()
        monitor = ["-chardev", f"socket,id={MONITOR},fd={theirs.fileno()}", "-mon", f"chardev={MONITOR},mode=control"]
        # setpriv (util-linux) sets the death signal last: a change of ids would clear it.
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
        """Its monitor, the same one at every call.  Raises QmpError if it doesn't answer in ``timeout`` seconds."""
        if self._monitor is None:
            self._monitor = await Monitor.connect(self._ours, "scratch QEMU", timeout=timeout)
        return self._monitor

    async def listens(self, path: str, timeout: float) -> bool:
        """Wait until it listens at this path; False if it ended or took more than ``timeout`` seconds.

        The file is there before that: QEMU binds the socket, then listens (util/qemu-sockets.c, unix_listen_saddr).
        """

        async def settled() -> bool:  # no event tells everywhere that a socket was made
            return self._has(path) or self.process.returncode is not None

        await wait_until_async(settled, timeout)
        return self._has(path)

    def _has(self, path: str) -> bool:
        """Whether it listens there by now; it may have been started by a script."""
        return os.path.exists(path) and listens(self.process.pid, path)

    async def gave_up(self) -> bool:
        """Whether it has ended with an error, or does so within LEAVING_SECONDS: its monitor closes before it ends."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.process.wait(), LEAVING_SECONDS)
        return (self.process.returncode or 0) > 0

    async def end(self) -> None:
        """Kill it and read its errors, in ``DYING_SECONDS`` at most; a second call does nothing."""
        if self._monitor is not None:
            await self._monitor.close()
        self._ours.close()
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # and its children: it may be a script
                os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.stderr is not None
        with contextlib.suppress(TimeoutError, QmpError):
            async with asyncio.timeout(DYING_SECONDS):
                lines = (await self.process.stderr.read()).decode(errors="replace").splitlines()
                self.words = self.words or tuple(self._errors(lines))
                await self.process.wait()

    def _errors(self, lines: list[str]) -> Iterator[str]:
        """Lines that aren't warnings, without the name of the program that printed them."""
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
    """The prefix that runs a command as a user; empty for None."""
    return ["setpriv", *_ids(user), "--"] if user else []


def _ids(user: User | None) -> list[str]:
    if user is None or os.geteuid() != 0:  # it is this user's own
        return []
    groups = ["--groups", ",".join(map(str, user.groups))] if user.groups else ["--clear-groups"]
    return [f"--reuid={user.uid}", f"--regid={user.gid}", *groups]
