"""Both channels of cpr-transfer, with a process of this test in the place of QEMU."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.errors import HostError
from virtcpr.host.qemu import cpr_channels
from virtcpr.host.qemu.cpr_channels import Channels, Part, send_ram, send_state


@pytest.fixture
def paths(tmp_path: Path) -> tuple[str, str]:
    return str(tmp_path / "cpr.sock"), str(tmp_path / "main.sock")


@pytest.fixture
def channels(paths: tuple[str, str], tmp_path: Path) -> Iterator[Channels]:
    made = Channels(*paths, str(tmp_path), 5)
    yield made
    made.close()


def old(paths: tuple[str, str], fd: int, said: list[str]) -> None:
    """As QEMU does: descriptors, each with a byte; then it waits until the other side hangs up."""
    with socket.socket(socket.AF_UNIX) as cpr:
        cpr.connect(paths[0])
        cpr.sendall(b"magic")
        socket.send_fds(cpr, [b"1"], [fd])
        cpr.sendall(b"rest")
        cpr.shutdown(socket.SHUT_WR)
        assert cpr.recv(1) == b""
    said.append("paused")
    with socket.socket(socket.AF_UNIX) as main:
        main.connect(paths[1])
        main.sendall(b"state" * 100_000)


def test_the_guest_runs_until_its_state_is_asked_for(channels: Channels, paths: tuple[str, str]) -> None:
    fd, said = os.memfd_create("ram"), list[str]()
    os.write(fd, b"RAM")
    sender = threading.Thread(target=old, args=(paths, fd, said))
    sender.start()
    parts = asyncio.run(channels.ram())
    assert said == []
    assert b"".join(part.data for part in parts) == b"magic1rest"
    (carried,) = [carried for part in parts for carried in part.fds]
    assert next(part for part in parts if part.fds).data.endswith(b"1")
    assert os.pread(carried, 10, 0) == b"RAM"
    channels.hang_up()
    stored = asyncio.run(channels.state())
    sender.join()
    assert os.pread(stored, 1_000_000, 0) == b"state" * 100_000
    for part in parts:
        part.close()
    os.close(stored)
    os.close(fd)


def test_nothing_listens_there_afterwards(channels: Channels, paths: tuple[str, str]) -> None:
    channels.close()
    assert not any(map(os.path.exists, paths))


def test_one_that_does_not_come(paths: tuple[str, str], tmp_path: Path) -> None:
    channels = Channels(*paths, str(tmp_path), 0.05)
    with pytest.raises(HostError, match="old QEMU didn't hand over its RAM: timed out"):
        asyncio.run(channels.ram())
    channels.close()


def test_what_was_received_is_sent_as_it_came(paths: tuple[str, str]) -> None:
    """Each descriptor with its byte; and QEMU may open the channels later."""
    fd, stored = os.memfd_create("ram"), os.memfd_create("state")
    os.write(stored, b"state" * 100_000)
    heard = list[tuple[bytes, int]]()

    def new() -> None:
        for path in paths:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(path)
                listener.listen()
                channel, _ = listener.accept()
                with channel:
                    while True:
                        data, fds, _, _ = socket.recv_fds(channel, 1 << 20, 10)
                        if not data:
                            break
                        heard.append((data, len(fds)))
                        for got in fds:
                            os.close(got)

    receiver = threading.Thread(target=new)
    receiver.start()
    parts = (Part(b"magic", ()), Part(b"1", (fd,)), Part(b"rest", ()))
    send_ram(paths[0], parts, receiver.is_alive).close()
    send_state(paths[1], stored, receiver.is_alive)
    receiver.join()
    at = next(place for place, (_, number) in enumerate(heard) if number)
    assert b"".join(data for data, _ in heard[:at]) + heard[at][0] == b"magic1"
    assert b"".join(data for data, _ in heard) == b"magic1rest" + b"state" * 100_000
    os.close(fd)
    os.close(stored)


def test_one_that_reads_no_more(paths: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The guest is paused: somebody else has to get it."""
    monkeypatch.setattr(cpr_channels, "STALL_SECONDS", 0.1)
    stored = os.memfd_create("state")
    os.write(stored, bytes(10_000_000))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(paths[1])
        listener.listen()
        with pytest.raises(HostError, match="QEMU doesn't take the guest's state: timed out"):
            send_state(paths[1], stored, lambda: True)
    os.close(stored)


def test_one_that_has_ended(paths: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpr_channels, "READY_SECONDS", 0.05)
    with pytest.raises(HostError, match=r"QEMU doesn't open .*cpr\.sock: No such file"):
        send_ram(paths[0], (), lambda: False)
