"""Both channels of cpr-transfer without a second QEMU: what old sends is received here, and sent to another later.

Old sends its table of descriptors over the CPR channel and shuts that down for writing; it pauses its guest and
connects to the main channel once the other side hangs up (QEMU, migration/cpr.c, cpr_state_save, and
migration/cpr-transfer.c, cpr_transfer_add_hup_watch).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from virtcpr.errors import HostError
from virtcpr.host.files import atomic
from virtcpr.host.processes.descriptors import receive
from virtcpr.host.qemu import listeners

SIZE = 1 << 20  # bytes that are read at a time
READY_SECONDS = 30.0  # QEMU opens the channel as it begins
STALL_SECONDS = 10.0  # QEMU reads on, while the guest is paused
POLL = 0.002
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """What one message of the CPR channel brings: QEMU reads a descriptor with the byte that it was sent with."""

    data: bytes
    fds: tuple[int, ...]

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)


class Channels:
    """The sockets to which old QEMU connects.  ``timeout``: seconds for each wait."""

    def __init__(self, cpr: str, main: str, model: str, timeout: float) -> None:
        """Raises HostError.  ``model``: a file or directory of old QEMU's, whose owner and label they get."""
        self._timeout = timeout
        self._paths = cpr, main
        self._held = [socket.socket(fileno=listeners.bind(path, model)) for path in (cpr, main)]
        self._cpr: socket.socket | None = None

    async def ram(self) -> tuple[Part, ...]:
        """Receive the CPR channel; old QEMU's guest runs on until ``state``.  Raises HostError."""
        return await self._in_thread("hand over its RAM", self._ram)

    def _ram(self) -> tuple[Part, ...]:
        self._cpr = self._accept(0)
        parts = list[Part]()
        try:
            while True:
                data, fds = receive(self._cpr, SIZE, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    return tuple(parts)
                parts.append(Part(data, tuple(fds)))
        except BaseException:
            for part in parts:
                part.close()
            raise

    def hang_up(self) -> None:
        """Old QEMU pauses its guest now."""
        assert self._cpr is not None, "the RAM comes first"
        self._cpr.close()

    async def state(self) -> int:
        """Receive the main channel into a memfd, which is returned.  Raises HostError."""
        return await self._in_thread("hand over its state", self._state)

    def _state(self) -> int:
        stored = os.memfd_create("virtcpr-state")
        try:
            with self._accept(1) as channel:
                while data := channel.recv(SIZE):
                    os.write(stored, data)
        except BaseException:
            os.close(stored)
            raise
        return stored

    def _accept(self, which: int) -> socket.socket:
        self._held[which].settimeout(self._timeout)
        channel, _ = self._held[which].accept()
        channel.settimeout(self._timeout)
        return channel

    async def _in_thread(self, what: str, receive: Callable[[], T]) -> T:
        """If this is cancelled, wait for it: its sockets are about to be closed."""
        receiving = asyncio.ensure_future(asyncio.to_thread(receive))
        try:
            return await asyncio.shield(receiving)
        except OSError as error:
            raise HostError(f"old QEMU didn't {what}: {error}") from error
        except asyncio.CancelledError:
            await asyncio.wait([receiving])
            raise

    def close(self) -> None:
        """New QEMU listens in the same places: whoever looks for it must not find this."""
        atomic.remove(*self._paths)
        for held in (*self._held, *([self._cpr] if self._cpr else [])):
            held.close()


def send_ram(path: str, parts: tuple[Part, ...], alive: Callable[[], bool]) -> socket.socket:
    """Send the CPR channel to the QEMU that is about to open it; keep the returned socket until QEMU has made its
    devices.  Raises HostError."""
    channel = _connect(path, alive)
    try:
        for part in parts:
            if part.fds:
                socket.send_fds(channel, [part.data], list(part.fds))
            else:
                channel.sendall(part.data)
        channel.shutdown(socket.SHUT_WR)
    except OSError as error:
        channel.close()
        raise HostError(f"QEMU doesn't take the guest's RAM: {error}") from error
    return channel


def send_state(path: str, stored: int, alive: Callable[[], bool]) -> None:
    """Send the main channel, from a memfd.  Raises HostError."""
    with _connect(path, alive) as channel:
        try:
            sent = 0
            while data := os.pread(stored, SIZE, sent):
                channel.sendall(data)
                sent += len(data)
        except OSError as error:
            raise HostError(f"QEMU doesn't take the guest's state: {error}") from error


def _connect(path: str, alive: Callable[[], bool]) -> socket.socket:
    """As soon as QEMU listens there."""
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            channel.connect(path)
            channel.settimeout(STALL_SECONDS)
            return channel
        except OSError as error:
            if not alive() or time.monotonic() > deadline:
                channel.close()
                raise HostError(f"QEMU doesn't open {path}: {error.strerror}") from error
        time.sleep(POLL)
