"""The ports of old QEMU, for which a process stands in that only has their sockets: taken, and given back by pid."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from virtcpr.actions.transfer.resources import tcp_ports
from virtcpr.errors import HostError
from virtcpr.host.processes.proc import Process


@dataclass
class Old:
    process: Process
    listener: socket.socket  # of the same number there
    port: int

    @property
    def fds(self) -> list[tuple[int, int]]:
        return [(self.listener.fileno(), self.listener.fileno())]

    def answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=5).close()
        except ConnectionRefusedError:
            return False
        return True


@pytest.fixture
def old() -> Iterator[Old]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", port)) as listener:
        child = subprocess.Popen(["sleep", "600"], pass_fds=[listener.fileno()])
        yield Old(Process.of(child.pid), listener, port)
        child.kill()
        child.wait()


def test_what_was_noted_is_enough_to_give_it_back(old: Old) -> None:
    """Recovery has the journal and the process: neither descriptors nor what the sockets are connected to."""
    noted = tcp_ports.note(old.fds)
    for held in tcp_ports.take(old.fds):
        os.close(held)
    assert not old.answers()

    assert tcp_ports.give_back(old.process, noted) == []

    assert old.answers()


def test_a_port_that_was_never_taken_is_left_alone(old: Old) -> None:
    assert tcp_ports.give_back(old.process, tcp_ports.note(old.fds)) == []
    assert old.answers()


def test_a_port_that_somebody_else_has_is_said(old: Old) -> None:
    noted = tcp_ports.note(old.fds)
    for held in tcp_ports.take(old.fds):
        os.close(held)
    with socket.create_server(("127.0.0.1", old.port)):
        problems = tcp_ports.give_back(old.process, noted)
    assert problems == [f"nobody can connect to port {old.port} of its displays: Address already in use"]


def test_another_descriptor_of_that_number_is_not_touched(old: Old) -> None:
    ((source, known),) = tcp_ports.note(old.fds)
    (problem,) = tcp_ports.give_back(old.process, ((source, known + 1),))
    assert problem == f"nobody can connect to a TCP port of its displays: descriptor {source} is another one by now"


def test_what_listens_no_more_is_not_taken(old: Old) -> None:
    for held in tcp_ports.take(old.fds):
        os.close(held)
    with pytest.raises(HostError, match=f"port {old.port} can't be taken from old QEMU: "):
        tcp_ports.take(old.fds)
