"""The guest's CID of vsock: a file stands in for the device, which this machine needn't have, and says no to all."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from virtcpr.actions.transfer.resources import vsock
from virtcpr.errors import HostError
from virtcpr.host.network import vsock as device
from virtcpr.host.processes.proc import Process

CID = 3


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Process]:
    path = tmp_path / "vhost-vsock"
    path.touch()
    monkeypatch.setattr(device, "DEVICE", str(path))
    with path.open() as opened:
        child = subprocess.Popen(["sleep", "600"], pass_fds=[opened.fileno()])
    yield Process.of(child.pid)
    child.kill()
    child.wait()


def test_a_guest_without_vsock_is_left_alone() -> None:
    nobody = Process(1, "0")  # no such process: anything that is done with it fails
    vsock.take(nobody, None)
    assert vsock.give_back(nobody, None) == []


def test_what_fails_is_said(old: Process) -> None:
    with pytest.raises(HostError, match="the vsock CID 3 can't be taken from old QEMU: Inappropriate ioctl"):
        vsock.take(old, CID)
    (problem,) = vsock.give_back(old, CID)
    assert problem.startswith("vsock doesn't reach the guest (CID 3): Inappropriate ioctl")


def test_a_process_without_the_device(old: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "DEVICE", "/nowhere")
    with pytest.raises(HostError, match="hasn't opened /nowhere"):
        vsock.take(old, CID)
    assert "hasn't opened /nowhere" in vsock.give_back(old, CID)[0]


def test_nothing_keeps_a_roll_back_from_going_on(old: Process) -> None:
    os.kill(old.pid, 9)
    os.waitid(os.P_PID, old.pid, os.WEXITED | os.WNOWAIT)
    (problem,) = vsock.give_back(old, CID)
    assert "CID 3" in problem


def test_a_cid_that_somebody_has_is_not_taken_for_the_guest(old: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is to have one that is nobody's: the next lower is tried."""
    tried = []

    def ioctl(_: int, request: int, argument: bytes) -> int:
        assert request == device.SET_GUEST_CID
        tried.append(struct.unpack("Q", argument)[0])
        if len(tried) < 3:
            raise OSError(errno.EADDRINUSE, "in use")
        return 0

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    vsock.take(old, CID)
    assert tried == [0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC]
