"""A port that is taken from a process that listens on it, and given back: with real sockets."""

from __future__ import annotations

import fcntl
import os
import resource
import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from virtcpr.host.network import listening

ADDRESSES = ["127.0.0.1", "0.0.0.0", "::1", "::"]


@pytest.fixture(params=ADDRESSES)
def olds(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    """As QEMU has it: bound by number."""
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as free:
        number = free.getsockname()[1]
    with socket.create_server((request.param, number), family=family) as made:
        yield made


def reach(listener: socket.socket) -> tuple[str, int]:
    host, port = listener.getsockname()[:2]
    return listening.LOOPBACK.get(host, host), port


def answers(listener: socket.socket) -> bool:
    """Whether a client reaches this very socket."""
    try:
        client = socket.create_connection(reach(listener), timeout=5)
    except ConnectionRefusedError:
        return False
    with client:
        return bool(select.select((listener,), (), (), 0)[0])


@contextmanager
def taken(listener: socket.socket) -> Iterator[None]:
    ours = listening.take(listener.fileno())
    yield
    os.close(ours)


def another(listener: socket.socket) -> socket.socket:
    """Binds the same port, as new QEMU does."""
    return socket.create_server(listener.getsockname()[:2], family=listener.family)


def test_somebody_else_can_listen_meanwhile(olds: socket.socket) -> None:
    with pytest.raises(OSError, match="Address already in use"):
        another(olds)

    with taken(olds):
        assert not answers(olds)
        with another(olds) as news:
            assert answers(news)
        listening.give_back(olds.fileno())

    assert answers(olds)


def test_the_process_is_not_kept_busy(olds: socket.socket) -> None:
    """It waits for something to read; a socket that only doesn't listen is ready all the time."""
    with taken(olds):
        assert select.select((olds,), (), (), 0)[0] == []
        listening.give_back(olds.fileno())
    assert listening.port(olds.fileno()) == olds.getsockname()[1]


def test_it_is_given_back_although_who_took_it_is_gone(olds: socket.socket) -> None:
    """The process sees that there is something to accept, and looks only when its port is back: it must not wait."""
    with taken(olds):
        pass
    assert select.select((olds,), (), (), 0)[0]
    listening.give_back(olds.fileno())
    assert not os.get_blocking(olds.fileno())
    assert answers(olds)


def test_what_listens_is_left_alone(olds: socket.socket) -> None:
    """Who waits to be accepted would lose the connection."""
    with socket.create_connection(reach(olds), timeout=5):
        listening.give_back(olds.fileno())
        assert select.select((olds,), (), (), 0)[0]


def test_a_port_that_somebody_else_has_is_not_given_back(olds: socket.socket) -> None:
    with taken(olds):
        with another(olds), pytest.raises(OSError, match="Address already in use"):
            listening.give_back(olds.fileno())
        listening.give_back(olds.fileno())
    assert answers(olds)


def test_a_socket_is_known_by_more_than_its_number(olds: socket.socket) -> None:
    copy = os.dup(olds.fileno())
    try:
        assert listening.identity(copy) == listening.identity(olds.fileno())
        with socket.create_server(("127.0.0.1", 0)) as other:
            assert listening.identity(other.fileno()) != listening.identity(copy)
    finally:
        os.close(copy)


def test_descriptors_from_1024_on(olds: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of many guests has as many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    monkeypatch.setattr(os, "dup", lambda fd: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 1500))
    try:
        os.close(listening.take(olds.fileno()))
        listening.give_back(olds.fileno())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with socket.create_connection(reach(olds), timeout=5):
        pass
