"""A process that serves a guest's QEMU over a unix socket, and that libvirt starts (src/qemu/qemu_extdevice.c)."""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.domain.sockets import beside


@dataclass(frozen=True)
class Helper:
    """``what`` it is called in messages.  ``started`` distinguishes it from a later process with its pid.

    ``socket`` is where QEMU finds it.  ``listener``: the number of the descriptor, listening there, that it is started
    with; None if it makes the socket itself.  ``pid_file``: libvirt's, which it holds locked.  ``lock``: the file by
    which it keeps others off its state, if it does.  ``writes``: it may write what it knows, asked by no QEMU.
    ``sandbox``: it has given up its rights and the host's view by itself, which another must have to do the same.
    ``detaches``: the same of its view alone; and it writes its pid file itself, and goes to the background.
    ``program``: the file that is run, if ``argv`` doesn't begin with it.
    ``files``: about how many of a shared directory's the guest knows.  ``problem``: why no second one can be started.
    """

    what: str
    pid: int
    started: str
    argv: tuple[str, ...]
    socket: str
    pid_file: str
    lock: str | None = None
    listener: int | None = None
    writes: bool = False
    sandbox: bool = False
    detaches: bool = False
    program: str = ""
    files: int = 0
    problem: str = ""

    @property
    def serves(self) -> str:
        """What of the guest, in words."""
        if self.detaches:
            return "a network interface"
        return "its TPM" if self.writes else "a shared directory"

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The first process's files that are at ``beside`` their paths while there is a second."""
        more = (self.lock, self.pid_file if self.detaches else None)
        return (self.socket, *filter(None, more))

    @property
    def leftovers(self) -> tuple[str, ...]:
        """What stands beside the process's files while there are two."""
        return tuple(map(beside, dict.fromkeys((*self.set_aside, self.pid_file))))
