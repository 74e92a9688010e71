"""QEMU's monitor, used directly while the daemon is down (qemu.qmp, the QEMU project's own library)."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Protocol

from qemu.qmp import ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.message import Message

from virtcpr.errors import QmpError, QmpRefused
from virtcpr.host.system import selinux

log = logging.getLogger(__name__)

CLOSE_SECONDS = 2.0
SECRET = ("password", "data")  # arguments of set_password and change-vnc-password; of secrets
MIGRATION_ENDS = ("completed", "failed", "cancelled")  # MigrationStatus, qapi/migration.json


class Qmp(Protocol):
    """Who executes QMP commands: a monitor, or libvirt's daemon by its own."""

    @property
    def name(self) -> str: ...

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        """As ``Monitor.execute``."""
        ...


class _Client(QMPClient):
    """The library's own hooks pretty-print every message for its log, whether or not anybody reads that: half a
    millisecond for 4 KiB (qemu.qmp 0.0.6, protocol.py)."""

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg


async def _connected(path: str, label: str) -> socket.socket:
    """A socket, connected, with this label if it may have that.  Raises OSError."""
    with ExitStack() as labelled:
        with suppress(OSError):  # QEMU may let it in all the same, and a guest may wait
            labelled.enter_context(selinux.sockets_as(label))
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        await asyncio.get_running_loop().sock_connect(made, path)
    except BaseException:
        made.close()
        raise
    return made


class Monitor:
    """One QMP session.  QEMU serves one client per monitor: while this one is open, no other client gets in."""

    def __init__(self, name: str, timeout: float) -> None:
        self.name = name
        self.timeout = timeout
        self._client = _Client(name)
        self._events: dict[str, list[Message]] = {}
        self._arrived = asyncio.Condition()
        self._lost = False
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    async def connect(cls, path: str | socket.socket, name: str, *, timeout: float) -> Monitor:
        """Connect and negotiate, ``timeout`` seconds at most; it is also the limit of every command.

        Raises QmpError if nothing answers in time.
        """
        monitor = cls(name, timeout)
        # The library logs tracebacks at lower levels; the caller gets the errors anyway.
        monitor._client.logger.setLevel(logging.CRITICAL)
        try:
            async with asyncio.timeout(timeout):
                if isinstance(path, str) and (label := selinux.client_label(path)):
                    path = await _connected(path, label)
                await monitor._client.connect(path)
        except TimeoutError as error:
            raise QmpError(f"{name}: QEMU's monitor didn't answer within {timeout:g} s") from error
        except (QMPError, OSError) as error:
            raise QmpError(f"{name}: QEMU's monitor can't be reached: {error}") from error
        readers = (monitor._read_events(), monitor._notice_loss())
        monitor._tasks = tuple(asyncio.create_task(reader) for reader in readers)
        return monitor

    async def _read_events(self) -> None:
        async for event in self._client.events:
            log.debug("%s: event %s", self.name, event)
            async with self._arrived:
                self._events.setdefault(str(event["event"]), []).append(event)
                self._arrived.notify_all()

    async def _notice_loss(self) -> None:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        async with self._arrived:
            self._lost = True
            self._arrived.notify_all()

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, fd: int | None = None
    ) -> object:
        """Run one command; ``fd`` is sent with it as ancillary data (for ``getfd``).

        Raises QmpRefused with QEMU's own words, QmpError if no answer came in time.
        """
        log.debug("%s: %s %s", self.name, command, _shown(arguments or {}))
        try:
            async with asyncio.timeout(self.timeout):
                if fd is not None:
                    self._client.send_fd_scm(fd)
                return await self._client.execute(command, dict(arguments) if arguments else None)
        except TimeoutError as error:
            raise QmpError(f"{self.name}: QEMU didn't answer {command} within {self.timeout:g} s") from error
        except ExecuteError as error:
            raise QmpRefused(f"{self.name}: QEMU refused {command}: {error}") from error
        except QMPError as error:
            raise QmpError(f"{self.name}: QEMU's monitor was lost during {command}: {error}") from error

    async def migration_end(self, timeout: float) -> str:
        """Wait until the migration is over; its status: ``completed``, ``failed`` or ``cancelled``.

        Needs the capability ``events``.  Raises QmpError at the time-out (seconds), and at once if the monitor is
        lost.
        """
        return await self.migration_is(MIGRATION_ENDS, timeout)

    async def migration_is(self, wanted: Collection[str], timeout: float) -> str:
        """Wait until the migration had one of these states since this session began; which.  As ``migration_end``."""

        def status() -> str | None:
            payloads = (event.get("data") for event in self._events.get("MIGRATION", []))
            words = (str(data.get("status")) for data in payloads if isinstance(data, dict))
            return next((word for word in words if word in wanted), None)

        try:
            async with asyncio.timeout(timeout), self._arrived:
                await self._arrived.wait_for(lambda: self._lost or status())
        except TimeoutError as error:
            raise QmpError(f"{self.name}: the migration isn't {' or '.join(wanted)} after {timeout:g} s") from error
        ended = status()
        if ended is None:
            raise QmpError(f"{self.name}: QEMU's monitor was lost during the migration")
        return ended

    def happened(self, name: str) -> float | None:
        """When an event came last, in seconds of the host's clock as QEMU stamped it; None if it never did."""
        events = self._events.get(name)
        return _seconds(events[-1]) if events else None

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._client.disconnect()
        except (QMPError, TimeoutError, OSError, EOFError) as error:
            log.debug("%s: closing the monitor: %s", self.name, error)

    async def __aenter__(self) -> Monitor:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()


def _shown(arguments: Mapping[str, object]) -> dict[str, object]:
    return {name: "***" if name in SECRET else value for name, value in arguments.items()}


def _seconds(event: Message) -> float:
    stamp = event.get("timestamp")
    if not isinstance(stamp, dict):
        return time.time()
    return float(stamp["seconds"]) + float(stamp["microseconds"]) / 1e6
