"""QMP by libvirt's daemon, while it has old QEMU's monitor (``virsh qemu-monitor-command``)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from virtcpr.errors import QmpError, VirtcprError
from virtcpr.host.libvirt.connection import Domain


class Passthrough:
    """One domain's QEMU.  Each command waits for the daemon's other work on the domain, half a minute at most."""

    def __init__(self, name: str, find: Callable[[], Domain]) -> None:
        """``find``: the domain, by a connection that works; it may raise HostError."""
        self.name = name
        self._find = find
        self._domain: Domain | None = None

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        """Run one command.  Raises QmpRefused with QEMU's own words, QmpError if the daemon doesn't pass it on.

        If this is cancelled, it waits for the answer all the same: a command that libvirt has may still be executed,
        after those that take it back.
        """
        sending = asyncio.ensure_future(asyncio.to_thread(self._send, command, arguments or {}, fd))
        try:
            return await asyncio.shield(sending)
        except asyncio.CancelledError:
            await asyncio.wait((sending,))
            raise
        except QmpError:
            raise
        except VirtcprError as error:
            raise QmpError(f"{self.name}: {error.message}", hint=error.hint) from error

    def _send(self, command: str, arguments: Mapping[str, object], fd: int | None) -> object:
        if self._domain is None:
            self._domain = self._find()
        return (
            self._domain.monitor(command, arguments)
            if fd is None
            else self._domain.monitor_with(fd, command, arguments)
        )

    def renew(self) -> None:
        """Look for the domain again before the next command: the daemon may have started anew."""
        self._domain = None
