"""A TCP port on which another process listens: taken from it while it lives, so that a third can bind it; given back.

All by a copy of its socket (pidfd_getfd(2)): the process itself isn't asked.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import socket

CONNECT_SECONDS = 5.0
BACKLOG = 128
UNSPEC = ctypes.create_string_buffer(16)  # struct sockaddr with AF_UNSPEC
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def identity(listener: int) -> int:
    """What tells this socket from another that gets its number later."""
    return os.fstat(listener).st_ino


def port(listener: int) -> int:
    with _copy(listener) as copy:
        return int(copy.getsockname()[1])


def take(listener: int) -> int:
    """Free the port of a listening socket: connections to it are refused until somebody else listens there.

    The socket keeps its port, but is connected to one of ours, whose descriptor is returned: spice-server would accept
    again and again at a socket that only doesn't listen.  Keep ours open until the process is dead or has its port
    back.  Raises OSError; then the socket may have stopped to listen, and is to be given back.

    From then on the socket doesn't block: where ours is closed early, the process wakes up to accept somebody, and
    would wait for ever if its port came back in between.  QEMU needs no blocking one (qio_net_listener_channel_func()).
    """
    with _copy(listener) as copy:
        host = copy.getsockname()[0]
        with socket.create_server((LOOPBACK.get(host, host), 0), family=copy.family, backlog=1) as ours:
            os.set_blocking(copy.fileno(), False)
            copy.shutdown(socket.SHUT_RDWR)
            _connect(copy, ours)
            return ours.accept()[0].detach()


def _connect(copy: socket.socket, ours: socket.socket) -> None:
    error = copy.connect_ex(ours.getsockname())
    if error == errno.EINPROGRESS:
        poll = select.poll()  # select(2) takes no descriptor from 1024 on
        poll.register(copy, select.POLLOUT)
        connected = poll.poll(CONNECT_SECONDS * 1000)
        error = copy.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if connected else errno.ETIMEDOUT
    if error:
        raise OSError(error, os.strerror(error))


def give_back(listener: int) -> None:
    """Have the socket listen again; one that does already is left alone.

    Raises OSError: EADDRINUSE if somebody else listens on its port.
    """
    with _copy(listener) as copy:
        if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return
        # Ends the connection and keeps the port, which was bound by number (Linux, tcp_disconnect()).
        if ctypes.CDLL(None, use_errno=True).connect(copy.fileno(), UNSPEC, len(UNSPEC)) != 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        copy.listen(BACKLOG)


def _copy(listener: int) -> socket.socket:
    return socket.socket(fileno=os.dup(listener))
