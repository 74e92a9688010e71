"""The keeper: a process that holds a guest's descriptors, and a note on them, while no QEMU has the guest.

A transient systemd unit, or without systemd a process in a session of its own: it outlives virtcpr.  It knows nothing
of guests: whoever may open its socket, which root alone may, can fetch what it keeps.  As long as it keeps nothing, it
ends with the process that started it.

usage: python -I -m virtcpr.host.processes.keeper SOCKET
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from virtcpr.errors import HostError
from virtcpr.host.files.atomic import make_private
from virtcpr.host.processes import outlive
from virtcpr.host.processes.descriptors import receive
from virtcpr.host.report import sd_notify
from virtcpr.host.system.lock import RUN_DIR

DIRECTORY = RUN_DIR / "kept"
MOST = 200  # descriptors a message; Linux passes 253 (SCM_MAX_FD)
START_SECONDS = 20.0
ANSWER_SECONDS = 5.0
NEVER_KILLED = "-1000"  # if memory runs out (proc(5), oom_score_adj)
FETCH, END, KEPT, NOTHING = b"fetch", b"end", b"kept", b"nothing"


@dataclass(frozen=True)
class Keeper:
    """A keeper, by the path of its socket.  ``lease``: it ends when this is closed, unless it keeps something."""

    path: Path
    lease: socket.socket | None = None

    def put(self, note: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Give it these descriptors and a note, which JSON can carry: it has them when this returns.

        The descriptors stay open here, too.  Raises HostError.
        """
        text = _text(note)
        try:
            with self._connect() as channel:
                _send(channel, (text, *fds))
                if channel.recv(len(KEPT)) != KEPT:
                    raise HostError(f"the keeper at {self.path} has ended")
        except OSError as error:
            raise HostError(f"the keeper at {self.path} doesn't take the guest: {error}") from error
        finally:
            os.close(text)

    def fetch(self) -> tuple[Mapping[str, Any], list[int]] | None:
        """The note and copies of the descriptors; None if it keeps nothing, or has ended.  Raises HostError."""
        try:
            with self._connect() as channel:
                channel.send(FETCH)
                fds = _receive(channel)
        except (FileNotFoundError, ConnectionError):
            return None
        except OSError as error:
            raise HostError(f"the keeper at {self.path} can't be asked: {error}") from error
        if not fds:
            return None
        with os.fdopen(fds[0], "rb") as text:
            text.seek(0)
            return json.load(text), fds[1:]

    def leave(self) -> None:
        """From now on only what it keeps keeps it alive."""
        if self.lease is not None:
            self.lease.close()

    def end(self) -> None:
        """Let it go, with all that it keeps.  Raises nothing."""
        with suppress(OSError), self._connect() as channel:
            channel.send(END)
            channel.recv(1)  # until it has ended
        with suppress(OSError):
            self.path.unlink()

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            channel.settimeout(ANSWER_SECONDS)
            channel.connect(os.fspath(self.path))
        except BaseException:
            channel.close()
            raise
        return channel


def start(name: str) -> Keeper:
    """Start a keeper of this name, which keeps nothing yet, and ends with this process.  Raises HostError."""
    path = DIRECTORY / name
    try:
        make_private(DIRECTORY)
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HostError(f"{DIRECTORY} can't be used: {error.strerror}") from error
    command = [sys.executable, "-I", "-m", "virtcpr.host.processes.keeper", str(path)]
    if outlive.has_systemd():
        outlive.unit(command, f"virtcpr-keeper-{name}.service", "keeps a guest that no QEMU has", START_SECONDS)
    else:
        child = outlive.child(command, "the keeper", START_SECONDS)
        for pipe in filter(None, (child.stdin, child.stdout)):
            pipe.close()
    try:
        return Keeper(path, Keeper(path)._connect())
    except OSError as error:
        raise HostError(f"the keeper at {path} can't be reached: {error}") from error


def _text(note: Mapping[str, Any]) -> int:
    fd = os.memfd_create("virtcpr-note")
    os.write(fd, json.dumps(dict(note)).encode())
    return fd


def _send(channel: socket.socket, fds: Sequence[int]) -> None:
    """Each message says how many follow."""
    parts = [fds[start : start + MOST] for start in range(0, len(fds), MOST)]
    for left, part in zip(reversed(range(len(parts))), parts, strict=True):
        socket.send_fds(channel, [str(left).encode()], list(part))


def _receive(channel: socket.socket, first: bytes | None = None, fds: Sequence[int] = ()) -> list[int]:
    """All descriptors of what ``_send`` sends, none if the other side keeps nothing.  Raises ConnectionError."""
    held = list(fds)
    word = first
    try:
        while word is None or int(word):
            word, more = receive(channel, 64)
            held += more
            if word == NOTHING:
                return []
            if not word:
                raise ConnectionError("it has ended")
    except BaseException:
        for fd in held:
            os.close(fd)
        raise
    return held


class _Server:
    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._fds: list[int] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._lease: socket.socket | None = None  # the first connection

    def serve(self) -> None:
        """Until it is told to end, or nobody needs it any more."""
        while True:
            ready = self._selector.select(START_SECONDS)
            if not ready and self._lease is None:  # whoever started it has ended
                return
            for key, _ in ready:
                if key.fileobj is self._listener:
                    channel, _ = self._listener.accept()
                    channel.settimeout(ANSWER_SECONDS)
                    self._lease = self._lease or channel
                    self._selector.register(channel, selectors.EVENT_READ)
                elif isinstance(key.fileobj, socket.socket) and not self._answer(key.fileobj):
                    return

    def _answer(self, channel: socket.socket) -> bool:
        """Whether to go on."""
        word = b""
        try:
            word, fds = receive(channel, 64)
            if word == FETCH and self._fds:
                _send(channel, self._fds)
            elif word == FETCH:
                channel.send(NOTHING)
            elif word and word != END:
                self._fds += _receive(channel, word, fds)
                channel.send(KEPT)
        except (OSError, ValueError):  # who asked is gone, or isn't virtcpr
            word = b""
        if not word:
            self._selector.unregister(channel)
            channel.close()
        return word != END and (bool(word) or channel is not self._lease or bool(self._fds))


def main(path: str) -> None:
    os.umask(0o077)
    with suppress(OSError):  # the guest is here, and nowhere else; without root it can't be spared
        Path("/proc/self/oom_score_adj").write_text(NEVER_KILLED)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        sd_notify.ready()
        print(outlive.READY, flush=True)
        _Server(listener).serve()
        os.unlink(path)


if __name__ == "__main__":
    main(sys.argv[1])
